/**
 * Every service is restarted by SIGTERM, one after the other, while clients create sandboxes and run programs in them.
 * A client repeats only what docs/http.md says is safe: a command under the same Idempotency-Key, a read, and both only
 * after a connection that broke or an error that says `retryable`.
 */

import { randomUUID } from 'node:crypto'
import { afterAll, beforeAll, expect, test } from '@jest/globals'
import { TestSystem } from './system.js'

let system: TestSystem
beforeAll(async () => {
  system = await TestSystem.start({ schedulers: 2, gateways: 2 })
}, 180_000)
afterAll(() => system?.stop(), 60_000)

/** As long as a user waits; a restart takes a few seconds. */
const PATIENCE_MS = 40_000
const CLIENTS = 3

class Client {
  repeats = 0
  private turn: number

  constructor(turn: number) {
    this.turn = turn
  }

  async call(method: 'GET' | 'POST', path: string, body?: object): Promise<Response> {
    const key = randomUUID()
    const giveUpAt = performance.now() + PATIENCE_MS
    for (;;) {
      const answer = await this.once(method, path, key, body)
      if (answer instanceof Response && answer.ok) return answer
      const trouble = answer instanceof Response ? await answer.text() : `no answer: ${answer}`
      const mayRepeat = !(answer instanceof Response) || JSON.parse(trouble).error.retryable === true
      if (!mayRepeat || performance.now() > giveUpAt) throw new Error(`${method} ${path}: ${trouble}`)
      this.repeats++
      await new Promise((resolve) => setTimeout(resolve, 200))
    }
  }

  async json<T>(method: 'GET' | 'POST', path: string, body?: object): Promise<T> {
    for (;;) {
      const answer = await this.call(method, path, body)
      try {
        return (await answer.json()) as T
      } catch (error) {
        // The head came and the body did not. A command would need its key here; those below are all read once more.
        if (method === 'POST') throw error
      }
    }
  }

  private async once(method: string, path: string, key: string, body?: object): Promise<Response | string> {
    const urls = system.system.gatewayUrls
    const url = urls[this.turn++ % urls.length]!
    try {
      return await fetch(url + path, {
        method,
        headers: {
          Authorization: `Bearer ${system.env.SANDTRAIL_TOKEN}`,
          'Idempotency-Key': key,
          ...(body === undefined ? {} : { 'Content-Type': 'application/json' }),
        },
        ...(body === undefined ? {} : { body: JSON.stringify(body) }),
      })
    } catch (error) {
      return String((error as Error).cause ?? error)
    }
  }
}

interface Exec {
  execId: string
  exec: { execId: string; state: string; exitCode: number | null; terminalEvent: string } | null
}

/** Once through a sandbox's life. Resolves with the ids; @throws at anything that a user would call a failure */
async function life(client: Client): Promise<{ sandboxId: string; execs: string[] }> {
  const { sandboxId } = await client.json<{ sandboxId: string }>('POST', '/v1/sandboxes', {})
  const execs: string[] = []
  for (const word of ['one', 'two', 'three']) {
    const started = await client.json<Exec>('POST', `/v1/sandboxes/${sandboxId}/execs`, {
      argv: ['sh', '-c', `echo ${word} >> /root/words; cat /root/words; exit 7`],
      waitMs: 20_000,
    })
    execs.push(started.execId)
    let exec = started.exec
    while (exec === null || exec.state !== 'ended') {
      exec = await client.json('GET', `/v1/execs/${started.execId}/wait?timeoutMs=20000`)
    }
    if (exec?.exitCode !== 7) throw new Error(`${exec?.execId}: ${exec?.terminalEvent} ${exec?.exitCode}`)
  }
  // At most once each, and in order: a program that ran twice would show.
  const output = await (await client.call('GET', `/v1/execs/${execs[2]}/output/stdout`)).text()
  if (output !== 'one\ntwo\nthree\n') throw new Error(`${execs[2]} wrote ${JSON.stringify(output)}`)
  await client.json('POST', `/v1/sandboxes/${sandboxId}/terminate`)
  return { sandboxId, execs }
}

test('a restart of each service in turn fails no call', async () => {
  const clients = Array.from({ length: CLIENTS }, (_, index) => new Client(index))
  const lives: { sandboxId: string; execs: string[] }[] = []
  const failures: string[] = []
  let goOn = true
  const load = clients.map(async (client) => {
    while (goOn) {
      await life(client).then(
        (done) => lives.push(done),
        (error) => failures.push(`${new Date().toISOString()} ${(error as Error).message}`),
      )
    }
  })
  const restarted: string[] = []
  for (const service of [
    'scheduler-1',
    'gateway',
    'worker-1',
    'snapshotter',
    'volume-syncer',
    'scheduler-2',
    'gateway-2',
    'worker-1',
  ]) {
    const before = lives.length
    await system.system.restart(service)
    // Under load again before the next one.
    while (lives.length < before + CLIENTS && failures.length === 0) {
      await new Promise((resolve) => setTimeout(resolve, 100))
    }
    restarted.push(`${new Date().toISOString()} ${service}: ${lives.length - before} lives`)
  }
  goOn = false
  await Promise.all(load)

  expect({ failures, restarted: failures.length > 0 ? restarted : [] }).toEqual({
    failures: [],
    restarted: [],
  })
  const repeats = clients.reduce((sum, client) => sum + client.repeats, 0)
  console.info(`${lives.length} lives, ${repeats} calls repeated\n${restarted.join('\n')}`)
  const events = await system.json<{ type: string; data: object }[]>('events', '--since', '1h', '-n', '20000')
  const bad = ['ExecLost', 'ExecFailed', 'SandboxFailed', 'SandboxLost']
  expect(events.filter(({ type }) => bad.includes(type))).toEqual([])
  expect(await system.run(['verify'])).toMatchObject({ code: 0 })
}, 300_000)
