/** The shapes of answers for the OpenAPI document. The compiler holds them to the types that the code returns. */

import { z } from 'zod'
import type { Accepted } from '#libs/contract'
import type { ErrorBody, ExecSpec, SandboxSpec } from '#libs/domain'
import type { DeadLetterBody } from '#libs/messaging'
import type { AppView } from '../apps.js'
import type { Health } from '../health.js'
import type { ImageView } from '../images.js'
import type { PruneReport } from '../prune.js'
import type { SnapshotMade } from '../snapshots.js'
import type { TenantView } from '../tenants.js'
import type { Fleet } from '../time-travel.js'
import type { EventView } from '../views/event.js'
import type { ExecView } from '../views/exec.js'
import type { SandboxView } from '../views/sandbox.js'
import type { VolumeView } from '../volumes.js'
import type { WorkerView } from '../workers.js'
import type { Principal } from './auth.js'

/** A schema whose fields are those of `T`, no more and no less; ids are strings here. */
type Shape<T> = { [K in keyof T]-?: z.ZodType }
const shape =
  <T>() =>
  <S extends Shape<T>>(fields: S & Record<Exclude<keyof S, keyof T>, never>): z.ZodObject =>
    z.object(fields as z.ZodRawShape)

const id = z.string()
const text = z.string()
const time = z.iso.datetime()
const count = z.int().min(0)
const orNull = <S extends z.ZodType>(schema: S) => schema.nullable()
const words = z.array(text)
const terminal = orNull(z.object({ rows: count, cols: count }))

const acceptedFields = {
  ok: z.literal(true),
  commandId: id,
  stream: id,
  version: count,
  sandboxId: id.optional(),
  execId: id.optional(),
  imageId: id.optional(),
  snapshotId: id.optional(),
  volumeId: id.optional(),
  commitId: id.optional(),
  workerId: id.optional(),
  appId: id.optional(),
}
const AcceptedAnswer = shape<Accepted>()(acceptedFields)

const sandboxSpec = {
  runtime: z.literal('gvisor'),
  image: z.object({ imageId: id, ref: text }),
  command: orNull(words),
  workdir: orNull(text),
  user: orNull(text),
  envNames: words,
  resources: z.object({ cpuMillis: count, memoryBytes: count, diskBytes: count }),
  cpuLimitMillis: orNull(count),
  diskLimitBytes: count,
  timeoutMs: count,
  idleTimeoutMs: orNull(count),
  network: z.enum(['none', 'open']),
  volumes: z.array(
    z.object({ volumeId: id, name: text, path: text, readOnly: z.boolean(), version: orNull(count) }),
  ),
  name: orNull(text),
  tags: z.record(text, text),
  appId: orNull(id),
  stdin: z.enum(['open', 'closed']),
  pty: terminal,
} satisfies Shape<SandboxSpec>

const Sandbox = shape<SandboxView>()({
  sandboxId: id,
  state: z.enum(['created', 'starting', 'running', 'stopping', 'ended']),
  ...sandboxSpec,
  workerId: orNull(id),
  epoch: orNull(count),
  createdAt: time,
  startedAt: orNull(time),
  endedAt: orNull(time),
  terminalEvent: orNull(text),
  exitCode: orNull(count),
  reason: orNull(text),
  errorCode: orNull(text),
  cleanedUp: z.boolean(),
  version: count,
})

const execSpec = {
  sandboxId: id,
  epoch: count,
  argv: words,
  workdir: orNull(text),
  user: orNull(text),
  envNames: words,
  pty: terminal,
  stdin: z.enum(['open', 'inline', 'closed']),
  timeoutMs: orNull(count),
} satisfies Shape<ExecSpec>

const summary = orNull(z.object({ bytes: count, droppedBytes: count, sha256: text }))
const Exec = shape<ExecView>()({
  execId: id,
  state: z.enum(['requested', 'running', 'ended']),
  ...execSpec,
  requestedAt: time,
  startedAt: orNull(time),
  endedAt: orNull(time),
  pid: orNull(count),
  terminalEvent: orNull(text),
  exitCode: orNull(count),
  signal: orNull(count),
  reason: orNull(text),
  errorCode: orNull(text),
  mayHaveRun: orNull(z.boolean()),
  stdout: summary,
  stderr: summary,
  version: count,
})

const Event = shape<EventView>()({
  position: orNull(count),
  type: text,
  time,
  actor: text,
  commandId: text,
  data: z.record(text, z.unknown()),
  stream: id,
  version: count,
  typeVersion: count,
  eventId: id,
  causationId: orNull(text),
  correlationId: orNull(text),
  traceparent: orNull(text),
  workerId: orNull(id),
  epoch: orNull(count),
  hasSealed: z.boolean(),
  hash: text,
})

const imageFields = {
  imageId: id,
  name: orNull(text),
  state: z.enum(['absent', 'importing', 'ready', 'failed', 'removed']),
  source: z.record(text, z.unknown()),
  digest: orNull(text),
  shared: z.boolean(),
  replicas: z.array(id),
  createdAt: time,
  error: orNull(z.object({ code: text, message: text })),
}
const Image = shape<ImageView>()(imageFields)

const versionFields = {
  version: count,
  commitId: id,
  sandboxId: id,
  base: count,
  changedPaths: count,
  overwritten: words,
  trigger: z.enum(['commit', 'sandbox-end']),
}
const Volume = shape<VolumeView>()({
  volumeId: id,
  name: text,
  state: z.enum(['ready', 'removed']),
  workerId: id,
  version: count,
  createdAt: time,
  versions: z.array(z.object({ ...versionFields, at: time })),
})

const App = shape<AppView>()({
  appId: id,
  name: orNull(text),
  environment: text,
  kind: z.enum(['deployed', 'ephemeral']),
  description: text,
  state: z.enum(['running', 'stopped']),
  createdAt: time,
  stoppedAt: orNull(time),
  stopReason: orNull(text),
  sandboxes: count,
})

const row = z.record(text, z.unknown())

const resources = z.object({ cpuMillis: count, memoryBytes: count, diskBytes: count })
const Worker = shape<WorkerView>()({
  workerId: id,
  state: z.enum(['active', 'cordoned', 'draining', 'drained', 'lost']),
  cordoned: z.boolean(),
  hostname: orNull(text),
  version: orNull(text),
  sandboxes: count,
  stopping: count,
  capacity: resources,
  reserved: resources,
  poolFreeBytes: count,
  heartbeatAgeMs: count,
  drainDeadline: orNull(time),
})
const deadLetter = {
  seq: count,
  subject: text,
  tenant: orNull(text),
  commandId: orNull(text),
  deadAt: orNull(time),
  deliveries: orNull(count),
  reason: text,
  bytes: count,
}
const amounts = { sandboxes: count, execs: count, cpuMillis: count, memoryBytes: count, diskBytes: count }
const Tenant = shape<TenantView>()({
  tenant: text,
  state: z.enum(['active', 'suspended', 'removing', 'removed']),
  createdAt: orNull(time),
  /** null: unlimited. */
  limits: z.record(text, orNull(count)),
  used: z.object(amounts),
})

/** Every schema that an answer of the API refers to. */
export const ANSWERS = {
  Error: z.object({
    error: shape<ErrorBody>()({
      code: text,
      message: text,
      hint: orNull(text),
      retryable: z.boolean(),
      retryAfterMs: count.optional(),
    }),
  }),
  Ok: z.object({ ok: z.boolean() }),
  Accepted: AcceptedAnswer,
  Sandbox,
  SandboxList: z.object({ sandboxes: z.array(row), nextCursor: orNull(text) }),
  SandboxHistory: z.object({ sandboxId: id, events: z.array(Event) }),
  Exec,
  ExecAccepted: z.object({ ...acceptedFields, exec: orNull(Exec) }),
  ExecList: z.object({ execs: z.array(Exec) }),
  ExecHistory: z.object({ execId: id, events: z.array(Event) }),
  StreamHistory: z.object({ stream: id, events: z.array(Event) }),
  StdinAccepted: z.object({ acceptedTo: count }),
  SnapshotMade: shape<SnapshotMade>()({ ...acceptedFields, tookMs: count }),
  Image,
  ImageAccepted: z.object({ ...acceptedFields, ...imageFields }),
  ImageList: z.object({ images: z.array(row) }),
  Volume,
  VolumeCommitted: z.object({ ...acceptedFields, ...versionFields }),
  VolumeList: z.object({ volumes: z.array(row) }),
  App,
  AppList: z.object({ apps: z.array(App), nextCursor: orNull(text) }),
  EventPage: z.object({ events: z.array(Event), next: count }),
  Fleet: shape<Fleet>()({
    at: time,
    sandboxes: z.array(Sandbox),
    execs: z.array(Exec),
    images: z.array(row),
    volumes: z.array(row),
  }),
  Worker,
  WorkerList: z.object({ workers: z.array(Worker) }),
  DeadLetter: shape<DeadLetterBody>()({ ...deadLetter, headers: z.record(text, text), body: orNull(row) }),
  DeadLetterList: z.object({ deadLetters: z.array(z.object(deadLetter)), next: orNull(count) }),
  Redriven: z.object({ ok: z.literal(true), subject: text }),
  PruneReport: shape<PruneReport>()({
    dryRun: z.boolean(),
    commands: z.object({ rows: count }),
    blobs: z.object({ count, bytes: count }),
    workers: z.array(
      z.object({ workerId: id, execs: count, bytes: count, tombstones: count, error: orNull(text) }),
    ),
  }),
  VerifyReport: row,
  Health: shape<Health>()({
    ok: z.boolean(),
    checks: z.array(z.object({ name: text, ok: z.boolean(), detail: text, hint: orNull(text) })),
  }),
  Principal: shape<Principal>()({ tenant: text, tokenId: id, operator: z.boolean() }),
  TokenMade: z.object({ id, name: text, operator: z.boolean(), token: text }),
  Tenant,
  TenantList: z.object({ tenants: z.array(Tenant) }),
  RefusalList: z.object({ refusals: z.array(row) }),
  TokenList: z.object({ tokens: z.array(row) }),
  Document: row,
} as const

export type AnswerName = keyof typeof ANSWERS
