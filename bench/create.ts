/** From the create of a sandbox to the output of its first exec, through the whole pipeline, on NATS. */

import type { Program } from './bench.js'
import { figure, paired } from './figure.js'

const RUNS = 20

export const benchCreate: Program = async ({ stock }) => {
  const { client, hand } = await stock()
  const sandboxes: string[] = []
  const ours = async () => {
    const { sandboxId } = await client.command('sandbox.create', {})
    sandboxes.push(String(sandboxId))
    const { execId } = await client.command('sandbox.exec', {
      sandboxId,
      argv: ['/bin/echo', 'hello'],
      waitMs: 30_000,
    })
    const { dataBase64 } = await client.read('exec.output', { execId, stream: 'stdout', offset: 0 })
    if (Buffer.from(String(dataBase64), 'base64').toString() !== 'hello\n')
      throw new Error('the output is not right')
  }
  // Ended between the pairs, not within what is timed.
  const measured = await paired(RUNS, ours, async () => {
    await hand.runOnce()
    for (const sandboxId of sandboxes.splice(0)) await client.command('sandbox.terminate', { sandboxId })
  })
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
