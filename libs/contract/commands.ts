/**
 * What callers send, by HTTP, `req.` and `cmd.` alike: one schema per verb, from which the checks, the types,
 * the OpenAPI document and docs/asyncapi.yaml come. Unknown fields are refused: a misspelt option is never ignored.
 */

import { z } from 'zod'
import { TENANT } from '#libs/domain'
import { id, sha256 } from './forms.js'

const NAME = /^[a-zA-Z0-9][a-zA-Z0-9._-]{0,63}$/
const ENV_NAME = /^[A-Za-z_][A-Za-z0-9_]{0,255}$/
const PATH_BYTES_MAX = 4096
const GIB = 1024 ** 3

/** Text that a thing is asked for by. Postgres holds no NUL, so it is told here what is wrong. */
export const reference = (max: number) => z.string().min(1).max(max).refine(noNul, 'must not contain NUL')
/** Text without NUL: it may become an argument, a path or a jsonb string, and none of them can hold one. */
const text = (max: number) =>
  z.string().max(max).refine(noNul, 'must not contain NUL').refine(wellFormed, 'must be well-formed Unicode')
const absolutePath = text(PATH_BYTES_MAX).refine(
  (path) => path.startsWith('/') && !path.split('/').includes('..'),
  {
    message: 'must be absolute and without ".."',
  },
)
/** As the guest's own files name it; a number needs no entry there. */
const user = text(64).regex(
  /^[^\p{Cc}\p{Z}:]+(:[^\p{Cc}\p{Z}:]+)?$/u,
  'must be a user like root, 1000 or 1000:1000',
)
export const appId = id('ap')
/** `nextCursor` of the page before. */
export const sandboxCursor = id('sb')
const name = z
  .string()
  .regex(NAME, 'must be 1 to 64 letters, digits, ".", "_" or "-", and begin with a letter or digit')
/**
 * Of an env as JSON: an exec's order carries the sandbox's and its own, sealed and in base64, and with two of this
 * size a third of the message is left for its arguments.
 */
export const ENV_BYTES_MAX = 256 * 1024
const env = z
  .record(z.string().regex(ENV_NAME, 'must be a name like PATH'), text(128 * 1024))
  .refine((values) => Buffer.byteLength(JSON.stringify(values)) <= ENV_BYTES_MAX, 'at most 256 KiB in all')
  .default({})
// Linux takes 128 KiB per argument and about 2 MiB in all; a command on the broker has 1 MiB.
const argv = z
  .array(text(128 * 1024))
  .min(1)
  .max(10_000)
  .refine((words) => words[0] !== '', 'must name a program')
const pty = z
  .strictObject({ rows: z.int().min(1).max(65_535), cols: z.int().min(1).max(65_535) })
  .nullable()
  .default(null)
const durationMs = (max: number) => z.int().min(1).max(max)

const tags = z.record(name, text(256)).refine((all) => Object.keys(all).length <= 64, 'at most 64 tags')

export const sandboxCreate = z.strictObject({
  /** Name or id of an image, or id of a snapshot; null: the default base image. */
  image: text(256).nullable().default(null),
  command: argv.nullable().default(null),
  workdir: absolutePath.nullable().default(null),
  user: user.nullable().default(null),
  env,
  cpuMillis: z.int().min(1).max(1_024_000).nullable().default(null),
  cpuLimitMillis: z.int().min(1).max(1_024_000).nullable().default(null),
  memoryBytes: z
    .int()
    .min(32 * 1024 ** 2)
    .max(1024 * GIB)
    .nullable()
    .default(null),
  diskBytes: z
    .int()
    .min(1)
    .max(512 * GIB)
    .nullable()
    .default(null),
  diskLimitBytes: z
    .int()
    .min(1024 ** 2)
    .max(512 * GIB)
    .nullable()
    .default(null),
  timeoutMs: durationMs(24 * 3_600_000)
    .nullable()
    .default(null),
  idleTimeoutMs: durationMs(24 * 3_600_000)
    .nullable()
    .default(null),
  network: z.enum(['none', 'open']).default('none'),
  volumes: z
    .array(
      z.strictObject({
        /** Name or id; a name that does not exist yet is an error, not a new volume. */
        volume: text(64),
        path: absolutePath.refine((path) => path !== '/', 'must not be the root'),
        readOnly: z.boolean().default(false),
        version: z.int().min(0).nullable().default(null),
      }),
    )
    .max(32)
    .default([]),
  name: name.nullable().default(null),
  tags: tags.default({}),
  runtime: z.enum(['gvisor', 'vm']).default('gvisor'),
  /** Its name is unique within this app then. */
  appId: appId.nullable().default(null),
  /** Of the main command. `open`: bytes follow by HTTP. */
  stdin: z.enum(['open', 'closed']).default('closed'),
  pty,
})

export const sandboxTerminate = z.strictObject({ sandboxId: id('sb') })

/** `tags` are all that it has from now on; legal also after its end. */
export const sandboxTag = z.strictObject({ sandboxId: id('sb'), tags })
/** Of a living one without a name. */
export const sandboxName = z.strictObject({ sandboxId: id('sb'), name })

export const sandboxExec = z.strictObject({
  sandboxId: id('sb'),
  argv,
  workdir: absolutePath.nullable().default(null),
  user: user.nullable().default(null),
  env,
  pty,
  /** `open`: bytes follow by HTTP. A small stdin goes within the command, base64, at most 256 KiB. */
  stdin: z.enum(['open', 'closed', 'inline']).default('closed'),
  stdinBase64: z.base64().max(350_000).nullable().default(null),
  timeoutMs: durationMs(24 * 3_600_000)
    .nullable()
    .default(null),
  /** A `req.` or HTTP call may wait for the exit, this long. */
  waitMs: z.int().min(0).max(300_000).default(0),
})

export const sandboxSignal = z.strictObject({ execId: id('ex'), signal: z.int().min(1).max(64) })

export const snapshotCreate = z.strictObject({ sandboxId: id('sb') })

export const imageImport = z.strictObject({
  name: text(256).regex(/^[a-z0-9]+([._/:-][a-z0-9]+)*$/, 'must be a reference like alpine:3.21'),
  /** Of the root tarball, already in the blob store. */
  sha256,
})
export const imageRemove = z.strictObject({ image: text(256) })

export const volumeCreate = z.strictObject({ name })
export const volumeCommit = z.strictObject({ sandboxId: id('sb'), volume: text(64) })
export const volumeReload = z.strictObject({ sandboxId: id('sb'), volume: text(64) })
export const volumeRemove = z.strictObject({ volume: text(64) })

/** `environment` and `name` are found together: the same name may be in use in another environment. */
export const appCreate = z.strictObject({
  name: name.nullable().default(null),
  environment: name.default('main'),
  /** `ephemeral`: lives as long as its client sends `app.heartbeat`. */
  kind: z.enum(['deployed', 'ephemeral']),
  description: text(1024).default(''),
})
export const appStop = z.strictObject({
  appId,
  reason: z.enum(['requested', 'client-disconnected']).default('requested'),
})
export const appHeartbeat = z.strictObject({ appId })

/** Operators' commands. */
export const workerCordon = z.strictObject({ workerId: id('wk'), reason: text(256).nullable().default(null) })
export const workerUncordon = z.strictObject({ workerId: id('wk') })
export const workerDrain = workerCordon.extend({
  /** After it, what still runs is terminated; null: it is waited for, however long. */
  timeoutMs: z
    .int()
    .min(0)
    .max(7 * 24 * 3_600_000)
    .nullable()
    .default(null),
})

const count = z
  .int()
  .min(0)
  .max(2 ** 31 - 1)
const bytes = z.int().min(0).max(Number.MAX_SAFE_INTEGER)
const atLeastOne = z
  .int()
  .min(1)
  .max(2 ** 31 - 1)

/** What is absent stays as it is; null takes a limit away. */
export const tenantLimits = z.strictObject({
  sandboxes: count.nullable().optional(),
  execs: count.nullable().optional(),
  cpuMillis: bytes.nullable().optional(),
  memoryBytes: bytes.nullable().optional(),
  diskBytes: bytes.nullable().optional(),
  commandsPerSecond: atLeastOne.nullable().optional(),
  commandsBurst: atLeastOne.optional(),
  requestsPerSecond: atLeastOne.nullable().optional(),
  requestsBurst: atLeastOne.optional(),
  /** Of the tenant's account on the broker; they hold from the next reload of its configuration. */
  natsConnections: atLeastOne.optional(),
  natsSubscriptions: atLeastOne.optional(),
  natsPayloadBytes: z
    .int()
    .min(1024)
    .max(64 * 1024 ** 2)
    .optional(),
})
const tenantName = z.string().regex(TENANT, 'must be 1 to 31 lower-case letters, digits and "-"')
const tokenId = z.string().regex(/^ak-[A-Za-z0-9_-]{16}$/, 'must be the id of a token')
const reason = text(256).nullable().default(null)
export const tenantCreate = z.strictObject({ tenant: tenantName, limits: tenantLimits })
export const tenantLimit = tenantCreate
export const tenantSuspend = z.strictObject({
  tenant: tenantName,
  reason,
  /** What becomes of those that run; what is ended is ended for good. */
  sandboxes: z.enum(['keep', 'end']).default('keep'),
})
export const tenantResume = z.strictObject({ tenant: tenantName })
export const tenantRemove = z.strictObject({
  tenant: tenantName,
  reason,
  /** End what runs, remove volumes and images; else nothing of it may live. */
  force: z.boolean().default(false),
})
/** The secret is made and kept by who sends it; here is only what may be told. */
export const tokenCreate = z.strictObject({
  tenant: tenantName,
  tokenId,
  name: text(64).min(1),
  operator: z.boolean(),
})
export const tokenRevoke = z.strictObject({ tenant: tenantName, tokenId })

/** Every command, by aggregate and verb: `req.<key>` and `cmd.<key>`. */
export const COMMANDS = {
  'sandbox.create': sandboxCreate,
  'sandbox.terminate': sandboxTerminate,
  'sandbox.tag': sandboxTag,
  'sandbox.name': sandboxName,
  'sandbox.exec': sandboxExec,
  'sandbox.signal': sandboxSignal,
  'snapshot.create': snapshotCreate,
  'image.import': imageImport,
  'image.remove': imageRemove,
  'volume.create': volumeCreate,
  'volume.commit': volumeCommit,
  'volume.reload': volumeReload,
  'volume.remove': volumeRemove,
  'app.create': appCreate,
  'app.stop': appStop,
  'app.heartbeat': appHeartbeat,
  'worker.cordon': workerCordon,
  'worker.uncordon': workerUncordon,
  'worker.drain': workerDrain,
  'tenant.create': tenantCreate,
  'tenant.limit': tenantLimit,
  'tenant.suspend': tenantSuspend,
  'tenant.resume': tenantResume,
  'tenant.remove': tenantRemove,
  'token.create': tokenCreate,
  'token.revoke': tokenRevoke,
} as const

export type CommandName = keyof typeof COMMANDS
export type CommandBody<N extends CommandName> = z.output<(typeof COMMANDS)[N]>

function noNul(value: string): boolean {
  return !value.includes('\0')
}

function wellFormed(value: string): boolean {
  return value.isWellFormed()
}
