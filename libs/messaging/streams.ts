/**
 * The streams of JetStream. All of them may be lost at any time: commands in COMMANDS are queued but not accepted,
 * EVENTS is filled again from the ledger, and nothing is read from here that is not in Postgres as well.
 *
 * Declared by comparing what the server holds with what is wanted: a server that drops an option which it does not
 * know, or a stream that somebody changed, stops the start instead of losing messages later.
 */

import { isDeepStrictEqual } from 'node:util'
import {
  DiscardPolicy,
  JetStreamApiError,
  type JetStreamManager,
  jetstreamManager,
  RetentionPolicy,
  StorageType,
  type StreamConfig,
} from '@nats-io/jetstream'
import { nanos } from '@nats-io/transport-node'
import { SandtrailError } from '#libs/domain'
import { type Messaging, transportError } from './messaging.js'

export const COMMANDS = 'COMMANDS'
export const EVENTS = 'EVENTS'
export const DEAD_LETTERS = 'DEAD_LETTERS'
/** Always empty; see `commands`. */
const NO_DEDUPE = 'NO_DEDUPE'

const HOUR_MS = 3_600_000
const MIB = 1024 ** 2
const API_MS = 5_000
/** A broker that has just started, or a cluster that elects, answers with errors for some seconds. */
const ENSURE_MS = 30_000
const RETRY_MS = 250
/** What a cluster keeps of each stream, so that the loss of one server loses nothing. */
const CLUSTER_REPLICAS = 3
const STREAM_NOT_FOUND = 10059

type Wanted = Partial<StreamConfig> & { name: string }

/**
 * Makes what is missing, mends what differs. Resolves with the names of the streams that had to be made.
 *
 * @throws SandtrailError INTERNAL when a stream differs in what cannot be changed, UNAVAILABLE when the broker is not
 * ready within 30 s.
 */
export async function ensureStreams(messaging: Messaging): Promise<string[]> {
  const giveUpAt = performance.now() + ENSURE_MS
  for (;;) {
    try {
      return await messaging.link.while(ENSURE_MS, () => ensureAll(messaging))
    } catch (error) {
      const told = transportError(error, 'the streams')
      const mayPass = told instanceof SandtrailError && told.retryable && !isRefusal(error)
      if (!mayPass || performance.now() > giveUpAt) throw told
      await new Promise((resolve) => setTimeout(resolve, RETRY_MS))
    }
  }
}

async function ensureAll(messaging: Messaging): Promise<string[]> {
  const jsm = await managerOf(messaging)
  const replicas = messaging.connection.info?.cluster ? CLUSTER_REPLICAS : 1
  const made: string[] = []
  for (const wanted of streamsWanted(replicas)) {
    if (await ensureStream(jsm, wanted)) made.push(wanted.name)
  }
  return made
}

export function managerOf(messaging: Messaging): Promise<JetStreamManager> {
  return jetstreamManager(messaging.connection, { checkAPI: false, timeout: API_MS })
}

/** Every part of `wanted` that the server holds otherwise. */
export function differences(wanted: object, held: object): string[] {
  const heldFields = new Map(Object.entries(held))
  return Object.entries(wanted)
    .filter(([field, value]) => !isDeepStrictEqual(value, heldFields.get(field)))
    .map(([field]) => field)
}

export function isStreamMissing(error: unknown): boolean {
  return error instanceof JetStreamApiError && error.code === STREAM_NOT_FOUND
}

/** 503 is a broker that is not ready; all else it would say again. */
function isRefusal(error: unknown): error is JetStreamApiError {
  return error instanceof JetStreamApiError && error.status !== 503
}

function streamsWanted(replicas: number): Wanted[] {
  const common = { storage: StorageType.File, num_replicas: replicas }
  return [
    { ...common, name: NO_DEDUPE, subjects: ['none.>'], max_msgs: 1 },
    commands(common),
    {
      ...common,
      name: EVENTS,
      subjects: ['v1.*.evt.>'],
      retention: RetentionPolicy.Limits,
      max_age: nanos(24 * HOUR_MS),
      max_bytes: 2048 * MIB,
      discard: DiscardPolicy.Old,
      // Of events that were published again after a crash, the second is dropped; beyond the window readers drop it
      // by its position.
      duplicate_window: nanos(120_000),
    },
    {
      ...common,
      name: DEAD_LETTERS,
      subjects: ['dead.>'],
      retention: RetentionPolicy.Limits,
      max_age: nanos(24 * HOUR_MS),
      max_bytes: 256 * MIB,
      discard: DiscardPolicy.Old,
    },
  ]
}

/**
 * Message ids are shared by all who publish to a stream, so within a window one tenant could swallow another's
 * command, and the broker would answer it with a happy PubAck. A stream of its own always has a window of at least
 * 100 ms; only one that has a source may have none, so COMMANDS names an empty one (docs/adr/0011).
 */
function commands(common: Partial<StreamConfig>): Wanted {
  return {
    ...common,
    name: COMMANDS,
    subjects: ['v1.*.cmd.>'],
    sources: [{ name: NO_DEDUPE }],
    retention: RetentionPolicy.Workqueue,
    max_age: nanos(24 * HOUR_MS),
    max_bytes: 1024 * MIB,
    // A full queue refuses: the caller hears it, and what is queued stays. Each tenant's verb has a share of its own.
    discard: DiscardPolicy.New,
    max_msgs_per_subject: 10_000,
    discard_new_per_subject: true,
  }
}

/** True when it had to be made. */
async function ensureStream(jsm: JetStreamManager, wanted: Wanted): Promise<boolean> {
  let held: StreamConfig
  let made = false
  try {
    held = (await jsm.streams.info(wanted.name)).config
  } catch (error) {
    if (!isStreamMissing(error)) throw error
    held = (await jsm.streams.add(wanted)).config
    made = true
  }
  if (differences(wanted, held).length > 0) held = await update(jsm, wanted)
  const left = differences(wanted, held)
  // Zero is left out of the answer, and it is what COMMANDS must have.
  if (wanted.name === COMMANDS && held.duplicate_window) left.push('duplicate_window')
  if (left.length > 0) throw unusable(wanted.name, left)
  return made
}

async function update(jsm: JetStreamManager, wanted: Wanted): Promise<StreamConfig> {
  try {
    return (await jsm.streams.update(wanted.name, wanted)).config
  } catch (cause) {
    if (isRefusal(cause)) throw unusable(wanted.name, ['what cannot be changed'], cause)
    throw cause
  }
}

function unusable(name: string, fields: string[], cause?: unknown): SandtrailError {
  return new SandtrailError('INTERNAL', `the stream ${name} differs in ${fields.join(', ')}`, {
    hint: `delete the stream ${name} and start again: EVENTS is filled from the ledger, queued commands are re-sent`,
    cause,
  })
}
