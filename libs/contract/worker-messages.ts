/** What workers send, checked: a worker's host may be taken over, its identity is its NATS key and nothing it says. */

import { z } from 'zod'
import { parseBody } from './check.js'
import { FACT_LIST_MAX, FACT_TEXT_MAX } from './fact-text.js'
import { id, sha256 } from './forms.js'
import type { Heartbeat, Report } from './worker.js'

const count = z.int().min(0)
const shortText = z.string().max(FACT_TEXT_MAX)
const exitCode = z.int().min(0).max(255)
const signal = z.int().min(1).max(64).nullable()
const output = z.strictObject({
  bytes: count,
  droppedBytes: count,
  sha256,
})

const sandboxEnding = z.discriminatedUnion('kind', [
  z.strictObject({ kind: z.literal('exited'), code: exitCode.nullable(), signal }),
  z.strictObject({ kind: z.literal('stopped') }),
  z.strictObject({ kind: z.literal('timed-out'), reason: z.enum(['lifetime', 'idle']) }),
  z.strictObject({ kind: z.literal('failed'), step: shortText, code: shortText, message: shortText }),
])
const execEnding = z.discriminatedUnion('kind', [
  z.strictObject({
    kind: z.literal('exited'),
    exitCode,
    signal,
    reason: z.enum(['exit', 'signal', 'timeout', 'sandbox-ended']),
    stdout: output,
    stderr: output,
  }),
  z.strictObject({ kind: z.literal('failed'), exitCode, code: shortText, message: shortText }),
  z.strictObject({ kind: z.literal('lost'), mayHaveRun: z.boolean(), reason: shortText }),
])
const common = { factSeq: z.int().min(1), observedAtMs: z.number() }
const fact = z.discriminatedUnion('kind', [
  z.strictObject({
    kind: z.literal('sandbox-started'),
    volumes: z.array(z.strictObject({ volumeId: id('vo'), version: count })).max(32),
    ...common,
  }),
  z.strictObject({ kind: z.literal('exec-started'), execId: id('ex'), pid: count, ...common }),
  z.strictObject({ kind: z.literal('exec-ended'), execId: id('ex'), ending: execEnding, ...common }),
  z.strictObject({
    kind: z.literal('sandbox-ended'),
    ending: sandboxEnding,
    staged: z.array(z.strictObject({ volumeId: id('vo'), commitId: z.string().max(128) })).max(32),
    ...common,
  }),
  z.strictObject({
    kind: z.literal('sandbox-cleaned-up'),
    leftovers: z.array(shortText).max(FACT_LIST_MAX),
    ...common,
  }),
])

const report = z.strictObject({
  tenant: z.string(),
  sandboxId: id('sb'),
  epoch: z.int().min(1),
  facts: z.array(fact).min(1).max(1_000),
})

const heartbeat = z.strictObject({
  workerId: id('wk'),
  incarnation: z.string().max(64),
  info: z.strictObject({
    hostname: shortText,
    version: shortText,
    runtimes: z.array(z.string().max(32)).max(8),
    dataPlaneUrl: z
      .string()
      .regex(/^https:\/\//, 'must be an https:// URL')
      .max(256),
    certificate: z.string().max(16_384),
    sealKey: z.string().regex(/^X[A-Z2-7]{55}$/, 'must be a public curve key'),
  }),
  capacity: z.strictObject({ cpuMillis: count, memoryBytes: count, diskBytes: count }),
  poolFreeBytes: count,
  sandboxes: z.array(
    z.strictObject({
      sandboxId: id('sb'),
      tenant: z.string().min(1).max(64),
      epoch: z.int().min(1),
      state: z.enum(['starting', 'running', 'ending', 'ended']),
    }),
  ),
  openExecs: z.array(id('ex')),
})

/** @throws Rejected INVALID_ARGUMENT */
export const parseReport = (body: unknown): Report => parseBody(report, body) as Report
/** @throws Rejected INVALID_ARGUMENT */
export const parseHeartbeat = (body: unknown): Heartbeat => parseBody(heartbeat, body) as Heartbeat
