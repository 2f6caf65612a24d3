import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, expect, test } from '@jest/globals'
import { Journal } from './journal.js'
import { Lifetime } from './lifetime.js'

const root = mkdtempSync(join(tmpdir(), 'sandtrail-lifetime-'))
afterAll(() => rmSync(root, { recursive: true }))

const HOUR = 3_600_000

function run({
  timeoutMs = HOUR,
  idleTimeoutMs = null as number | null,
  dir = mkdtempSync(join(root, 's-')),
}) {
  const journal = Journal.open(dir)
  if (journal.state.runningSince === null) journal.append({ kind: 'running' })
  const over = Promise.withResolvers<string>()
  const busy = { execs: false }
  const began = performance.now()
  const lifetime = new Lifetime({ timeoutMs, idleTimeoutMs }, journal, () => busy.execs, over.resolve)
  lifetime.start()
  return { lifetime, over: over.promise, busy, dir, tookMs: () => performance.now() - began }
}

test('a lifetime ends on time', async () => {
  const { over, tookMs, lifetime } = run({ timeoutMs: 150 })
  expect(await over).toBe('lifetime')
  expect(tookMs()).toBeGreaterThan(130)
  lifetime.stop()
})

test('a restart of the worker gives no new lifetime', async () => {
  const first = run({ timeoutMs: 1_000 })
  await new Promise((resolve) => setTimeout(resolve, 700))
  first.lifetime.stop()
  const again = run({ timeoutMs: 1_000, dir: first.dir })
  const fresh = run({ timeoutMs: 1_000 })
  const order: string[] = []
  await Promise.all([fresh.over.then(() => order.push('fresh')), again.over.then(() => order.push('again'))])
  expect(order).toEqual(['again', 'fresh'])
  again.lifetime.stop()
  fresh.lifetime.stop()
})

test('nothing to do for so long is idle', async () => {
  const { over, lifetime } = run({ idleTimeoutMs: 60 })
  expect(await over).toBe('idle')
  lifetime.stop()
})

test('an open exec and a held connection keep it from being idle, and the time begins anew after them', async () => {
  const { over, busy, lifetime, tookMs } = run({ idleTimeoutMs: 60 })
  busy.execs = true
  const release = lifetime.hold()
  await new Promise((resolve) => setTimeout(resolve, 150))
  release()
  release()
  await new Promise((resolve) => setTimeout(resolve, 100))
  busy.execs = false
  lifetime.touch()
  expect(await over).toBe('idle')
  expect(tookMs()).toBeGreaterThan(290)
  lifetime.stop()
})
