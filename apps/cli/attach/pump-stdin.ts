/**
 * Sends local input to an exec's stdin, at the pace of the process. Each piece has its offset, so one whose answer
 * was lost is sent again without doubling a byte.
 */

import type { Readable } from 'node:stream'
import { Rejected, SandtrailError } from '#libs/domain'
import { type Api, path, pause } from '../api.js'

/** What is read ahead while a piece is on its way; then the local reader waits. */
const AHEAD_BYTES_MAX = 1024 * 1024
const PIECE_BYTES_MAX = 256 * 1024
const PAUSE_MS = 250

/**
 * Resolves when all was taken and the end of file was sent, or when the process does not read any more.
 *
 * @param offset how much of its stdin the process has had before
 */
export async function pumpStdin(
  api: Api,
  execId: string,
  input: Readable,
  { offset = 0, signal }: { offset?: number; signal?: AbortSignal } = {},
): Promise<void> {
  const target = path`/v1/execs/${execId}/stdin`
  let position = offset
  const send = async (piece: Buffer, eof: boolean) => {
    const end = position + piece.length
    do {
      const rest = piece.subarray(piece.length - (end - position))
      position = await put(api, target, rest, position, eof, signal)
    } while (position < end)
  }
  try {
    for await (const piece of pieces(input, signal)) await send(piece, false)
    await send(Buffer.alloc(0), true)
  } catch (error) {
    if (signal?.aborted || (error instanceof Rejected && hasEnded(error))) return
    throw error
  }
}

/** How much the process' stdin has taken so far: what a second client needs to go on. */
export async function stdinOffset(api: Api, execId: string): Promise<number> {
  const answer = await api.json<{ acceptedTo: number }>('PUT', path`/v1/execs/${execId}/stdin`, {
    query: { offset: 0, eof: 0 },
    bytes: Buffer.alloc(0),
  })
  return answer.acceptedTo
}

async function put(
  api: Api,
  target: string,
  bytes: Buffer,
  offset: number,
  eof: boolean,
  signal: AbortSignal | undefined,
): Promise<number> {
  for (;;) {
    try {
      const query = { offset, eof: eof ? 1 : 0 }
      const { acceptedTo } = await api.json<{ acceptedTo: number }>('PUT', target, { query, bytes, signal })
      return acceptedTo
    } catch (error) {
      // Also one that its worker has not heard of yet: the caller's signal tells when it has ended instead.
      const mayPass = error instanceof SandtrailError ? error.retryable : isUnknown(error)
      if (!mayPass || signal === undefined) throw error
      await pause(PAUSE_MS, signal)
    }
  }
}

function hasEnded({ code }: Rejected): boolean {
  return code === 'EXEC_ENDED' || code === 'EXEC_LOST' || code === 'SANDBOX_GONE'
}

function isUnknown(error: unknown): boolean {
  return error instanceof Rejected && (error.code === 'EXEC_NOT_FOUND' || error.code === 'SANDBOX_NOT_FOUND')
}

/** What has come since the last piece, so that keys go at once and a pipe goes in large pieces. */
async function* pieces(input: Readable, signal: AbortSignal | undefined): AsyncGenerator<Buffer> {
  const waiting: Buffer[] = []
  let bytes = 0
  let ended = false
  let failure: unknown = null
  let wake = () => {}
  input.on('data', (chunk: Buffer) => {
    waiting.push(chunk)
    bytes += chunk.length
    if (bytes >= AHEAD_BYTES_MAX) input.pause()
    wake()
  })
  input.on('end', () => {
    ended = true
    wake()
  })
  input.on('error', (error) => {
    failure = error
    wake()
  })
  signal?.addEventListener('abort', () => wake())
  while (!signal?.aborted) {
    if (failure !== null) throw failure
    if (bytes > 0) {
      const all = Buffer.concat(waiting.splice(0))
      bytes = 0
      input.resume()
      for (let at = 0; at < all.length; at += PIECE_BYTES_MAX) yield all.subarray(at, at + PIECE_BYTES_MAX)
    } else if (ended) {
      return
    } else {
      await new Promise<void>((resolve) => {
        wake = resolve
      })
    }
  }
}
