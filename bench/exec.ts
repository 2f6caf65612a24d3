/** `/bin/true` in a running sandbox, as one call that waits for its end: on NATS and over HTTP. */

import type { Program } from './bench.js'
import { type Figure, figure, paired } from './figure.js'

const RUNS = 60

export const benchExec: Program = async ({ stock }) => {
  const { client, hand } = await stock()
  const { sandboxId } = await client.command('sandbox.create', { timeoutMs: 600_000 })
  const body = { argv: ['/bin/true'], waitMs: 30_000 }
  const byNats = () => client.command('sandbox.exec', { sandboxId, ...body })
  const byHttp = () => client.post(`/v1/sandboxes/${sandboxId}/execs`, body)
  const figures: Figure[] = []
  for (const [how, ours] of [
    ['NATS', byNats],
    ['HTTP', byHttp],
  ] as const) {
    figures.push(
      figure({
        name: `exec of /bin/true by ${how}`,
        against: '`runsc exec` by hand',
        unit: 'ms',
        ...(await paired(RUNS, ours, () => hand.execOnce())),
        target: { atMost: 0.6 },
      }),
    )
  }
  await client.command('sandbox.terminate', { sandboxId })
  return figures
}
