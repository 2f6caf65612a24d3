/** GET …/output/:stream: raw bytes from an offset, at the reader's own pace. */

import { once } from 'node:events'
import type { ServerResponse } from 'node:http'
import { Rejected } from '#libs/domain'
import type { OutputStream } from '../spool/output-stream.js'

const PIECE_BYTES = 256 * 1024

export interface OutputRange {
  offset: number
  /** Until the process has ended and all is sent; else what is there now. */
  follow: boolean
  /** Bytes at most. */
  limit: number
}

/** The bytes from `offset` on are gone; `firstOffset` is the oldest one that is kept. */
export class OutputDropped extends Rejected {
  constructor(readonly firstOffset: number) {
    super('OUTPUT_DROPPED', `the bytes below offset ${firstOffset} are not kept any more`)
  }
}

/** Resolves when the answer is complete or the reader has gone. @throws OutputDropped before anything was sent. */
export async function sendOutput(
  response: ServerResponse,
  output: OutputStream,
  range: OutputRange,
): Promise<void> {
  if (range.offset < output.first) throw new OutputDropped(output.first)
  const gone = new AbortController()
  response.on('close', () => gone.abort())
  response.writeHead(200, {
    'content-type': 'application/octet-stream',
    'cache-control': 'no-store',
    'sandtrail-offset': `${range.offset}`,
    ...(output.isEnded ? { 'sandtrail-end': '1' } : {}),
  })
  response.flushHeaders()
  const end = Math.min(range.offset + range.limit, Number.MAX_SAFE_INTEGER)
  for (let at = range.offset; at < end && !gone.signal.aborted; ) {
    // Asked before the read: what comes after it was not there at the end.
    const ended = output.isEnded
    const piece = await output.read(at, Math.min(PIECE_BYTES, end - at))
    // Dropped under the reader: cut off, so that it asks again and is told.
    if (piece === null) return void response.destroy()
    if (piece.length === 0) {
      if (ended || !range.follow) break
      await output.readable(at, gone.signal)
      continue
    }
    at += piece.length
    if (!response.write(piece)) await drained(response, gone.signal)
  }
  response.end()
}

async function drained(response: ServerResponse, signal: AbortSignal): Promise<void> {
  await once(response, 'drain', { signal }).catch(() => {}) // The reader has gone.
}
