/** From the create of a sandbox to the output of its first exec, through the whole pipeline, on NATS. */

import { setTimeout as delay } from 'node:timers/promises'
import type { Program } from './bench.js'
import { figure, paired } from './figure.js'

const RUNS = 20

export const benchCreate: Program = async ({ stock }) => {
  const { client, hand } = await stock()
  let sandboxId = ''
  const ours = async () => {
    sandboxId = String((await client.command('sandbox.create', {})).sandboxId)
    const { execId } = await client.command('sandbox.exec', {
      sandboxId,
      argv: ['/bin/echo', 'hello'],
      waitMs: 30_000,
    })
    const { dataBase64 } = await client.read('exec.output', { execId, stream: 'stdout', offset: 0 })
    if (Buffer.from(String(dataBase64), 'base64').toString() !== 'hello\n')
      throw new Error('the output is not right')
  }
  const gone = new Set<string>()
  const unsubscribe = client.onEvents((subject) => {
    const [id, type] = subject.split('.').slice(-2) as [string, string]
    if (type === 'SandboxCleanedUp') gone.add(id)
  })
  // Neither side is timed while the sandbox before is being taken apart.
  const end = async () => {
    await client.command('sandbox.terminate', { sandboxId })
    while (!gone.has(sandboxId)) await delay(5)
  }
  const measured = await paired(RUNS, ours, () => hand.runOnce(), end)
  unsubscribe()
  return [
    figure({
      name: "create to first exec's output",
      against: '`runsc run` of the same image by hand',
      unit: 'ms',
      ...measured,
      target: { atMost: 1.25 },
    }),
  ]
}
