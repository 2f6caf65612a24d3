/**
 * Notices when the broker has lost its store: after each reconnect and every few seconds it sees whether the streams
 * are there, and whether EVENTS is still the one that it was, no shorter, and whole from its beginning.
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
    let info = await infoOf(messaging)
    if (info.created !== known?.created && (await lacksItsBeginning(messaging, info))) {
      const message = 'the stream EVENTS was filled from the middle of the ledger: it is made anew'
      messaging.log.warn({ created: info.created }, message)
      await (await managerOf(messaging)).streams.delete(EVENTS)
      await ensureStreams(messaging)
      info = await infoOf(messaging)
    }
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

/**
 * Whether a store was lost and then published to, before anybody could say where to begin. What is missing cannot be put
 * in front of what is there.
 */
async function lacksItsBeginning(messaging: Messaging, { state }: StreamInfo): Promise<boolean> {
  // Its oldest messages go by age and size, and then its first sequence number is not 1 any more.
  if (state.messages === 0 || state.first_seq !== 1) return false
  const first = await positionAt(messaging, state.first_seq)
  return first !== null && first > 1n
}

/** The position of the newest event in EVENTS; null when it holds none. */
async function lastPosition(messaging: Messaging, { state }: StreamInfo): Promise<bigint | null> {
  return state.messages === 0 ? null : positionAt(messaging, state.last_seq)
}

async function positionAt(messaging: Messaging, seq: number): Promise<bigint | null> {
  const jsm = await managerOf(messaging)
  const message = await jsm.streams.getMessage(EVENTS, { seq })
  const position = message?.header.get(POSITION_HEADER)
  return position ? BigInt(position) : null
}
