/**
 * Follows one output stream to its last byte. A broken connection is taken up again at the offset that was reached,
 * so nothing is lost and nothing comes twice.
 */

import { once } from 'node:events'
import type { Writable } from 'node:stream'
import { type Api, mayPass, OutputDropped, PATIENCE_MS, pause } from '../api.js'

export interface OutputSource {
  /** Path of the API, without the query. */
  path: string
  query?: Record<string, string>
}

export interface FollowOptions {
  /** Where to begin; 0 is the first byte written. */
  offset?: number
  /** How many bytes there are in all, once the process has ended; null where nobody counts them. */
  total?: Promise<number | null>
  signal?: AbortSignal
  /** Something to tell the user. */
  note?(text: string): void
}

const PAUSE_MS = [100, 2_000] as const
const TELL_AFTER_MS = 15_000

/** Resolves with the offset after the last byte. @throws the server's error, or UNAVAILABLE after five minutes without one */
export async function followOutput(
  api: Api,
  source: OutputSource,
  sink: Writable,
  { offset = 0, total, signal, note }: FollowOptions = {},
): Promise<number> {
  let position = offset
  let brokenSinceMs: number | null = null
  let toldMs = 0
  for (;;) {
    try {
      const before = position
      const complete = await receive(api, source, sink, position, signal, (bytes) => {
        position += bytes
        brokenSinceMs = null
      })
      if (complete || position >= ((await total) ?? Number.POSITIVE_INFINITY)) return position
      // It ended, but not all of it came: the rest is asked for at once, and without haste when there is none yet.
      if (position === before) await pause(PAUSE_MS[0], signal)
    } catch (error) {
      if (signal?.aborted) return position
      if (error instanceof OutputDropped && error.firstOffset > position) {
        note?.(`sandtrail: ${error.firstOffset - position} bytes of output are not kept any more`)
        position = error.firstOffset
        continue
      }
      if (!mayPass(error)) throw error
      const now = performance.now()
      brokenSinceMs ??= now
      const brokenMs = now - brokenSinceMs
      if (brokenMs > PATIENCE_MS) throw error
      if (brokenMs > TELL_AFTER_MS && now - toldMs > TELL_AFTER_MS) {
        toldMs = now
        note?.(`sandtrail: reconnecting (${Math.round(brokenMs / 1000)} s)`)
      }
      await pause(Math.min(Math.max(PAUSE_MS[0], brokenMs / 2), PAUSE_MS[1]), signal)
    }
  }
}

/** True when the stream had ended already as this answer began, so that this was all of it. */
async function receive(
  api: Api,
  { path, query }: OutputSource,
  sink: Writable,
  offset: number,
  signal: AbortSignal | undefined,
  received: (bytes: number) => void,
): Promise<boolean> {
  const answer = await api.open('GET', path, { query: { ...query, offset, follow: 1 }, signal })
  for await (const chunk of answer as AsyncIterable<Buffer>) {
    const free = sink.write(chunk)
    received(chunk.length)
    if (!free) await once(sink, 'drain')
  }
  return answer.headers['sandtrail-end'] === '1'
}
