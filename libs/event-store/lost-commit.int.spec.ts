import { afterAll, beforeAll, expect, test } from '@jest/globals'
import { SandtrailError } from '#libs/domain'
import { migrate } from '#migrations'
import { append } from './append.js'
import { type Database, openDatabase } from './database.js'
import { readStream } from './read.js'
import { startPostgres, type TestPostgres } from './testing.js'
import { request, sandboxId } from './testing-requests.js'
import type { AppendResult } from './types.js'

let server: TestPostgres
let db: Database
beforeAll(async () => {
  server = await startPostgres()
  await migrate(server.url)
  db = openDatabase({ url: server.url, max: 8 })
})
afterAll(async () => {
  await db.end()
  await server.stop()
})

test('Postgres crashes three times under appends: what was accepted is there, what was not is not, a re-send has one effect', async () => {
  const sent = new Map<string, { given: ReturnType<typeof request>; result: AppendResult | SandtrailError }>()
  let sending = true
  const sender = async () => {
    while (sending) {
      const stream = sandboxId()
      const given = request({ stream })
      const result = await append(db, given).catch((error: SandtrailError) => error)
      sent.set(stream, { given, result })
      // While the database is away, each try fails at once.
      if (result instanceof Error) await new Promise((resolve) => setTimeout(resolve, 20))
    }
  }
  const senders = Array.from({ length: 8 }, sender)
  for (let crash = 0; crash < 3; crash++) {
    const before = sent.size
    while (sent.size < before + 100) await new Promise((resolve) => setTimeout(resolve, 5))
    await server.crash()
    await server.restart()
  }
  sending = false
  await Promise.all(senders)

  const failed = [...sent.values()].filter(({ result }) => result instanceof Error)
  expect(failed.length).toBeGreaterThan(0)
  for (const [stream, { given, result }] of sent) {
    const events = await readStream(db, stream)
    if (!(result instanceof Error)) {
      expect(result).toMatchObject({ outcome: 'appended' })
      expect(events).toHaveLength(1)
      continue
    }
    expect(result).toMatchObject({ code: 'UNAVAILABLE', retryable: true })
    if (result.message.includes('nothing was written')) expect(events).toEqual([])
    expect(['appended', 'duplicate']).toContain((await append(db, given)).outcome)
    expect(await readStream(db, stream)).toHaveLength(1)
  }
}, 120_000)
