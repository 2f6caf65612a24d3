/**
 * The past, rebuilt: the same folding that makes the present, over the events up to a moment (by their own `at`).
 * A stream's state at a moment is what its events told before the first later one.
 */

import {
  EXEC_TERMINAL_EVENTS,
  type Image,
  type ImageEvent,
  imageAggregate,
  Rejected,
  type Volume,
  volumeAggregate,
} from '#libs/domain'
import { type Queryable, type RecordedEvent, upcast } from '#libs/event-store'
import { type ExecView, execView } from './views/exec.js'
import { type SandboxView, sandboxView } from './views/sandbox.js'

/** @throws Rejected SANDBOX_NOT_FOUND when it did not exist yet */
export function sandboxAt(events: RecordedEvent[], at: Date): SandboxView {
  const view = sandboxView(upTo(events, at))
  if (view !== null) return view
  throw new Rejected('SANDBOX_NOT_FOUND', `the sandbox did not exist at ${at.toISOString()}`, {
    hint: `it was created at ${events[0]?.at.toISOString()}`,
  })
}

/** Every sandbox that existed; execs that had not ended, images that were ready, volumes not removed. */
export interface Fleet {
  at: string
  sandboxes: SandboxView[]
  execs: ExecView[]
  images: {
    imageId: string
    name: string | null
    state: Image['status']
    digest: string | null
    replicas: string[]
  }[]
  volumes: { volumeId: string; name: string; version: number; workerId: string }[]
}

/** Events per query. */
const PAGE = 5_000

// In the order of the primary key, so that each page goes on where the last one ended, whatever is appended meanwhile.
const READ_UNTIL = `
  select e.tenant, e.stream, e.version, e.type, e.type_version, e.at, e.data
  from events e
  where e.tenant = $1 and e.at <= $2 and (e.stream, e.version) > ($3, $4) and e.stream < $5
  order by e.stream, e.version
  limit ${PAGE}
`

// Most execs have ended and are not told of, so their data is not read. All streams of execs are between the two.
const READ_OPEN_EXECS = `
  with open as (
    select stream
    from events
    where tenant = $1 and at <= $2 and stream > 'ex-' and stream < 'ex.'
    group by stream
    having not bool_or(type = any($3))
  )
  select e.tenant, e.stream, e.version, e.type, e.type_version, e.at, e.data
  from open join events e using (stream)
  where e.at <= $2
  order by e.stream, e.version
`

/**
 * Reads the tenant's events up to `at`, those of ended execs aside, in pages: a second for a million events, memory for
 * its result.
 */
export async function fleetAt(db: Queryable, tenant: string, at: Date): Promise<Fleet> {
  const fleet: Fleet = { at: at.toISOString(), sandboxes: [], execs: [], images: [], volumes: [] }
  for (const kind of ['sb', 'im', 'vo']) {
    for await (const stream of streamsUntil(db, tenant, at, kind)) addStream(fleet, stream)
  }
  const { rows } = await db.query<Row>(READ_OPEN_EXECS, [tenant, at.toISOString(), EXEC_TERMINAL_EVENTS])
  for (const events of byStream(rows.map(toEvent))) {
    const view = execView(events)
    if (view !== null) fleet.execs.push(view)
  }
  return fleet
}

/** The events of one stream after the other, of all streams whose ids begin so. */
async function* streamsUntil(
  db: Queryable,
  tenant: string,
  at: Date,
  kind: string,
): AsyncGenerator<RecordedEvent[]> {
  let last = { stream: `${kind}-`, version: 0 }
  let unfinished: RecordedEvent[] = []
  for (;;) {
    // `.` is the character after `-`.
    const values = [tenant, at.toISOString(), last.stream, last.version, `${kind}.`]
    const { rows } = await db.query<Row>(READ_UNTIL, values)
    const streams = byStream([...unfinished, ...rows.map(toEvent)])
    unfinished = streams.pop() ?? []
    yield* streams
    const end = rows.at(-1)
    if (end === undefined || rows.length < PAGE) break
    last = { stream: end.stream, version: end.version }
  }
  if (unfinished.length > 0) yield unfinished
}

/** Cut where the stream changes. */
function byStream(events: RecordedEvent[]): RecordedEvent[][] {
  const streams: RecordedEvent[][] = []
  for (const event of events) {
    const current = streams.at(-1)
    if (current?.[0]?.stream === event.stream) current.push(event)
    else streams.push([event])
  }
  return streams
}

function addStream(fleet: Fleet, events: RecordedEvent[]): void {
  const [first] = events
  if (first === undefined) return
  switch (first.stream.slice(0, 3)) {
    case 'sb-': {
      const view = sandboxView(events)
      if (view !== null) fleet.sandboxes.push(view)
      return
    }
    case 'im-': {
      const image = events.map((event) => upcast(event)).reduce(imageAggregate.evolve, imageAggregate.initial)
      if (image.status === 'ready') fleet.images.push(imageEntry(first.stream, image, events))
      return
    }
    case 'vo-': {
      const volume: Volume = events
        .map((event) => upcast(event))
        .reduce(volumeAggregate.evolve, volumeAggregate.initial)
      if (volume.status !== 'ready') return
      const { name, version, workerId } = volume
      fleet.volumes.push({ volumeId: first.stream, name, version, workerId })
    }
  }
}

function imageEntry(
  imageId: string,
  image: Exclude<Image, { status: 'absent' }>,
  events: RecordedEvent[],
): Fleet['images'][number] {
  const ready = (events as unknown as ImageEvent[]).find((event) => event.type === 'ImageReady')
  const digest = ready?.type === 'ImageReady' ? ready.data.digest : null
  return { imageId, name: image.name, state: image.status, digest, replicas: image.replicas }
}

function upTo(events: RecordedEvent[], at: Date): RecordedEvent[] {
  const later = events.findIndex((event) => event.at > at)
  return later === -1 ? events : events.slice(0, later)
}

type Row = Pick<RecordedEvent, 'tenant' | 'stream' | 'version' | 'type' | 'at' | 'data'> & {
  type_version: number
}

function toEvent(row: Row): RecordedEvent {
  const { type_version: typeVersion, ...read } = row
  return { ...read, typeVersion, ...NOT_READ }
}

/** What is not needed to fold. */
const NOT_READ = {
  eventId: '',
  meta: {} as RecordedEvent['meta'],
  sealed: null,
  prevHash: Buffer.alloc(0),
  hash: Buffer.alloc(0),
  position: null,
}
