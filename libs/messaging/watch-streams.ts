/**
 * Notices when the broker has lost its store: after each reconnect and every few seconds it sees whether the streams
 * are there, and whether EVENTS is still the one that it was and no shorter.
 */

import type { StreamInfo } from '@nats-io/jetstream'
import { POSITION_HEADER } from './events.js'
import type { Listener, Messaging } from './messaging.js'
import { EVENTS, ensureStreams, managerOf } from './streams.js'

/** What tells one EVENTS from another. */
interface Sight {
  created: string
  lastSeq: number
}

const WATCH_MS = 5_000

/**
 * Makes the streams, then watches them. `onLost` is called when EVENTS was found empty at the start or has lost
 * messages since, with the position of the newest event that it still holds (null: none): publish again what the
 * ledger has after it. A call that rejects is made again.
 *
 * @throws SandtrailError INTERNAL when a stream differs from what is needed and cannot be changed.
 */
export async function watchStreams(
  messaging: Messaging,
  onLost: (lastPosition: bigint | null) => void | Promise<void>,
  { everyMs = WATCH_MS }: { everyMs?: number } = {},
): Promise<Listener> {
  let known: Sight | null = null

  const look = async () => {
    await ensureStreams(messaging)
    const info = await infoOf(messaging)
    const seen = { created: info.created, lastSeq: info.state.last_seq }
    const lost = known ? seen.created !== known.created || seen.lastSeq < known.lastSeq : seen.lastSeq === 0
    if (lost) {
      messaging.log.warn({ lastSeq: seen.lastSeq }, 'the stream EVENTS is empty or has lost messages')
      await onLost(await lastPosition(messaging, info))
    }
    // Only now: after a failure the loss is seen once more.
    known = seen
  }
  let isLooking = false
  const lookAgain = async () => {
    // A reconnect and the clock may ask for it together.
    if (isLooking) return
    isLooking = true
    try {
      await look()
    } catch (err) {
      messaging.log.warn({ err }, 'the streams could not be looked at')
    } finally {
      isLooking = false
    }
  }

  await look()
  const timer = setInterval(() => void lookAgain(), everyMs)
  const forget = messaging.link.onReconnect(() => void lookAgain())
  return {
    close() {
      clearInterval(timer)
      forget()
    },
  }
}

async function infoOf(messaging: Messaging): Promise<StreamInfo> {
  const jsm = await managerOf(messaging)
  return jsm.streams.info(EVENTS)
}

/** The position of the newest event in EVENTS; null when it holds none. */
async function lastPosition(messaging: Messaging, info: StreamInfo): Promise<bigint | null> {
  if (info.state.messages === 0) return null
  const jsm = await managerOf(messaging)
  const message = await jsm.streams.getMessage(EVENTS, { seq: info.state.last_seq })
  const position = message?.header.get(POSITION_HEADER)
  return position ? BigInt(position) : null
}
