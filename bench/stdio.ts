/** Bytes through an exec: 256 MiB out of a sandbox to a client over HTTP, and as much in. */

import { Readable } from 'node:stream'
import type { Program } from './bench.js'
import { type Figure, figure, timed } from './figure.js'

const MIB = 1024 ** 2
const BYTES = 256 * MIB
const RUNS = 3
const WRITE = `head -c ${BYTES} /dev/zero`
const READ = 'cat > /dev/null'

export const benchStdio: Program = async ({ stock }) => {
  const { client, hand } = await stock()
  const { sandboxId } = await client.command('sandbox.create', { timeoutMs: 600_000 })
  const start = async (script: string, stdin: 'open' | 'closed') => {
    const body = { sandboxId, argv: ['/bin/sh', '-c', script], stdin }
    return String((await client.command('sandbox.exec', body)).execId)
  }
  const read = async () => {
    const execId = await start(WRITE, 'closed')
    const response = await client.fetch(`/v1/execs/${execId}/output/stdout?follow=1`)
    let bytes = 0
    for await (const chunk of response.body!) bytes += chunk.length
    if (bytes !== BYTES) throw new Error(`${bytes} bytes came, not ${BYTES}`)
  }
  const write = async () => {
    const execId = await start(READ, 'open')
    const body = Readable.toWeb(Readable.from(zeros())) as ReadableStream
    await client.fetch(`/v1/execs/${execId}/stdin?offset=0&eof=1`, { method: 'PUT', body, duplex: 'half' })
    await client.fetch(`/v1/execs/${execId}/wait`)
  }
  const figures = [
    await throughput('stdout of 256 MiB to a client', read, () => hand.pipe(`${WRITE}`, 'out')),
    await throughput('stdin of 256 MiB from a client', write, () => hand.pipe(READ, 'in', BYTES)),
  ]
  await client.command('sandbox.terminate', { sandboxId })
  return figures
}

async function throughput(
  name: string,
  ours: () => Promise<void>,
  baseline: () => Promise<void>,
): Promise<Figure> {
  const rates = { ours: 0, baseline: 0 }
  for (let run = 0; run < RUNS; run++) {
    rates.ours = Math.max(rates.ours, (BYTES / MIB / (await timed(ours))) * 1000)
    rates.baseline = Math.max(rates.baseline, (BYTES / MIB / (await timed(baseline))) * 1000)
  }
  const against = '`runsc exec` by hand and a pipe, the best of 3'
  return figure({ name, against, unit: 'MiB/s', ...rates, target: { atLeast: 0.8 } })
}

function* zeros(): Generator<Buffer> {
  const block = Buffer.alloc(MIB)
  for (let sent = 0; sent < BYTES; sent += block.length) yield block
}
