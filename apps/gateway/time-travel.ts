/**
 * The past, rebuilt: the same folding that makes the present, over the events up to a moment (by their own `at`).
 * A stream's state at a moment is what its events told before the first later one.
 */

import {
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
  select e.event_id, e.tenant, e.stream, e.version, e.type, e.type_version, e.at, e.data, e.meta
  from events e
  where e.tenant = $1 and e.at <= $2 and (e.stream, e.version) > ($3, $4)
  order by e.stream, e.version
  limit ${PAGE}
`

/**
 * Reads every event of the tenant up to `at`, in pages: seconds for a million events, memory for its result.
 */
export async function fleetAt(db: Queryable, tenant: string, at: Date): Promise<Fleet> {
  const fleet: Fleet = { at: at.toISOString(), sandboxes: [], execs: [], images: [], volumes: [] }
  let stream: RecordedEvent[] = []
  let last: { stream: string; version: number } = { stream: '', version: 0 }
  for (;;) {
    const page = await readPage(db, tenant, at, last)
    for (const event of page) {
      if (stream[0] !== undefined && stream[0].stream !== event.stream) {
        addStream(fleet, upTo(stream, at))
        stream = []
      }
      stream.push(event)
    }
    const end = page.at(-1)
    if (end === undefined || page.length < PAGE) break
    last = end
  }
  addStream(fleet, upTo(stream, at))
  return fleet
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
    case 'ex-': {
      const view = execView(events)
      if (view !== null && view.state !== 'ended') fleet.execs.push(view)
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

async function readPage(
  db: Queryable,
  tenant: string,
  at: Date,
  after: { stream: string; version: number },
): Promise<RecordedEvent[]> {
  const values = [tenant, at.toISOString(), after.stream, after.version]
  const { rows } = await db.query<Row>(READ_UNTIL, values)
  return rows.map((row) => ({
    eventId: row.event_id,
    tenant: row.tenant,
    stream: row.stream,
    version: row.version,
    type: row.type,
    typeVersion: row.type_version,
    at: row.at,
    data: row.data,
    meta: row.meta,
    // Not needed to fold, and not read.
    sealed: null,
    prevHash: EMPTY,
    hash: EMPTY,
    position: null,
  }))
}

type Row = Pick<RecordedEvent, 'tenant' | 'stream' | 'version' | 'type' | 'at' | 'data' | 'meta'> & {
  event_id: string
  type_version: number
}

const EMPTY = Buffer.alloc(0)
