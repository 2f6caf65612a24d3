/** Messages on every subject that a service serves: tenants' and operators', a worker's, and the platform's own. */

import { headers as createHeaders } from '@nats-io/transport-node'
import fc from 'fast-check'
import { COMMANDS } from '#libs/contract'
import { checkRefusal } from './http.js'
import { type Body, bodyOf, bytesOf } from './json.js'
import { fitting } from './schema.js'
import { fillIn, type Target, type Voice } from './target.js'

export interface NatsCase {
  as: Voice
  subject: string
  /** Beside those that make a command, which `sound` adds. */
  headers: [string, string][]
  sound: boolean
  body: Body
}

const ANSWER_MS_MAX = 15_000
/** These answer when something has ended: as late as the caller asks. */
const WAITING = /\.(wait|exec|commit|snapshot|task)$|snapshot\.create$/
const WAITED_MS = 400

/** Reads, with a body that is right. */
const READS: Record<string, object> = {
  'sandbox.get': { sandboxId: '{sandbox}' },
  'sandbox.list': { states: ['running'], tags: { a: 'b' }, name: 'kept', limit: 10, cursor: '{sandbox}' },
  'sandbox.wait': { sandboxId: '{sandbox}', timeoutMs: 1 },
  'exec.get': { execId: '{exec}' },
  'exec.wait': { execId: '{exec}', timeoutMs: 1 },
  'exec.output': { execId: '{exec}', stream: 'stdout', offset: 0, limit: 100 },
  'events.read': { afterPosition: '0', limit: 10, types: ['sandbox.*'] },
  'image.get': { image: '{image}' },
  'image.list': {},
  'snapshot.get': { snapshotId: '{stream}' },
  'snapshot.list': {},
  'volume.get': { volume: '{volume}' },
  'volume.list': {},
  'volume.versions': { volume: '{volume}', afterVersion: 0 },
}

const to = { tenant: 'fuzz', sandboxId: '{nobody}', epoch: 1 }
const output = { bytes: 0, droppedBytes: 0, sha256: '{sha256}' }
const fact = { factSeq: 1, observedAtMs: 1 }
/** Of the platform to a worker, about what does not exist: a good order for what lives would be carried out. */
const ORDERS: object[] = [
  { kind: 'stop', reason: 'terminate', ...to },
  { kind: 'exec', execId: '{nothing}', spec: { argv: ['true'] }, secrets: null, startByMs: 1_000, ...to },
  { kind: 'cancel-exec', execId: '{nothing}', ...to },
  { kind: 'signal', execId: '{nothing}', signal: 9, signalId: 'x', ...to },
  { kind: 'create', spec: '{spec}', secrets: null, ...to },
]
const TASKS: object[] = [
  { kind: 'snapshot', ...to, imageId: 'im-01JTESTTESTTESTTESTTESTTE0' },
  { kind: 'remove-image', tenant: 'fuzz', imageId: 'im-01JTESTTESTTESTTESTTESTTE0' },
  {
    kind: 'import-image',
    tenant: 'fuzz',
    imageId: 'im-01JTESTTESTTESTTESTTESTTE0',
    url: 'http://127.0.0.1:9/x',
    sha256: '{sha256}',
    bytes: 1,
  },
  {
    kind: 'reload-volume',
    tenant: 'fuzz',
    volumeId: 'vo-01JTESTTESTTESTTESTTESTTE0',
    reloadId: 'x',
    sandboxId: '{nobody}',
    epoch: 1,
  },
  { kind: 'remove-volume', tenant: 'fuzz', volumeId: 'vo-01JTESTTESTTESTTESTTESTTE0' },
  { kind: 'prune', dryRun: true },
]
/** In the name of a worker that runs nothing, about another's sandbox. */
const HEARTBEAT = {
  workerId: '{silent}',
  incarnation: 'a',
  info: {
    hostname: 'h',
    version: '0',
    runtimes: ['gvisor'],
    dataPlaneUrl: 'https://127.0.0.1:9',
    certificate: 'x',
    sealKey: `X${'A'.repeat(55)}`,
  },
  capacity: { cpuMillis: 1_000, memoryBytes: 2 ** 30, diskBytes: 2 ** 30 },
  poolFreeBytes: 2 ** 30,
  sandboxes: [{ sandboxId: '{sandbox}', tenant: 'fuzz', epoch: 1, state: 'running' }],
  openExecs: ['{exec}'],
}
const FACTS: object[] = [
  { ...fact, kind: 'sandbox-started', volumes: [{ volumeId: 'vo-01JTESTTESTTESTTESTTESTTE0', version: 1 }] },
  { ...fact, kind: 'exec-started', execId: '{exec}', pid: 5 },
  {
    ...fact,
    kind: 'exec-ended',
    execId: '{exec}',
    ending: { kind: 'exited', exitCode: 0, signal: null, reason: 'exit', stdout: output, stderr: output },
  },
  { ...fact, kind: 'exec-ended', execId: '{exec}', ending: { kind: 'lost', mayHaveRun: true, reason: 'x' } },
  {
    ...fact,
    kind: 'sandbox-ended',
    ending: { kind: 'failed', step: 's', code: 'c', message: 'm' },
    staged: [],
  },
  { ...fact, kind: 'sandbox-cleaned-up', leftovers: ['x'] },
]

type Message = Pick<NatsCase, 'as' | 'subject'> & { value: fc.Arbitrary<unknown> }

const messages: Message[] = [
  ...Object.entries(COMMANDS).flatMap(([name, schema]): Message[] => {
    const value = fitting(schema)
    // Operators' commands are not queued: whoever drains a worker wants to hear what became of it.
    if (/^(worker|tenant|token)\./.test(name)) return [{ as: 'operator', subject: `req.${name}`, value }]
    return ['req', 'cmd'].map((kind) => ({ as: 'tenant', subject: `${kind}.${name}`, value }))
  }),
  ...Object.entries(READS).map(
    ([name, body]): Message => ({ as: 'tenant', subject: `req.${name}`, value: fc.constant(body) }),
  ),
  { as: 'operator', subject: 'req.worker.list', value: fc.constant({}) },
  { as: 'platform', subject: 'wrk.{worker}.order', value: fc.constantFrom(...ORDERS) },
  { as: 'platform', subject: 'wrk.{worker}.task', value: fc.constantFrom(...TASKS) },
  { as: 'worker', subject: 'ctl.{silent}.heartbeat', value: fc.constant(HEARTBEAT) },
  {
    as: 'worker',
    subject: 'ctl.{silent}.report',
    value: fc
      .constantFrom(...FACTS)
      .map((one) => ({ tenant: 'fuzz', sandboxId: '{sandbox}', epoch: 1, facts: [one] })),
  },
]

const header: fc.Arbitrary<[string, string]> = fc.tuple(
  fc.constantFrom(
    'Sandtrail-Command-Id',
    'sandtrail-command-id',
    'Sandtrail-Expires-At',
    'Sandtrail-Actor',
    'traceparent',
    'Nats-Msg-Id',
    'Nats-Rollup',
    'Nats-Expected-Stream',
    'Nats-TTL',
    'Nats-Service-Error',
  ),
  fc.oneof(
    fc.constantFrom(
      '',
      'x',
      'a..b.c.d.e',
      '>',
      '*',
      '$JS.ACK.x',
      '2026-13-99T00:00:00Z',
      'tomorrow',
      '1970-01-01T00:00:00Z',
    ),
    fc.constantFrom('9999-12-31T23:59:59Z', 'system:scheduler', 'all', '-1', 'x'.repeat(60_000)),
    fc.uuid(),
  ),
)

export const natsCase: fc.Arbitrary<NatsCase> = fc.constantFrom(...messages).chain(({ as, subject, value }) =>
  fc.record({
    as: fc.constant(as),
    subject: fc.constant(subject),
    headers: fc.oneof(
      { weight: 4, arbitrary: fc.constant<[string, string][]>([]) },
      { weight: 1, arbitrary: fc.array(header, { minLength: 1, maxLength: 3 }) },
    ),
    sound: fc.oneof(
      { weight: 9, arbitrary: fc.constant(true) },
      { weight: 1, arbitrary: fc.constant(false) },
    ),
    body: bodyOf(value),
  }),
)

/** Above it the client itself refuses: the broker's limit (nats-config.ts), less room for what the protocol adds. */
const MESSAGE_BYTES_MAX = 1024 ** 2 + 64 * 1024 - 1024
let commands = 0

/** @returns the code, or why there is none @throws when an answer is none that is allowed */
export async function tryNats({ nats, things, spare }: Target, one: NatsCase): Promise<string> {
  // A command that ends something is about what may be ended.
  const filled = /terminate|remove|worker\.(un)?cordon|drain/.test(one.subject) ? spare : things
  const bytes = Buffer.from(fillIn(bytesOf(one.body).toString('latin1'), filled), 'latin1')
  const given = one.headers.reduce((sum, [name, value]) => sum + name.length + value.length, 200)
  if (bytes.length + given > MESSAGE_BYTES_MAX) return 'too big to send'
  const headers = createHeaders()
  if (one.sound) {
    commands += 1
    headers.set('Sandtrail-Command-Id', `fuzz-${process.pid}-${commands}`)
    headers.set('Sandtrail-Expires-At', new Date(Date.now() + 600_000).toISOString())
  }
  for (const [name, value] of one.headers) headers.append(name, value)
  const mayWait = WAITING.test(one.subject)
  let reply: unknown
  try {
    const timeout = mayWait ? WAITED_MS : ANSWER_MS_MAX
    const message = await nats[one.as].connection.request(fillIn(one.subject, things), bytes, {
      timeout,
      headers,
    })
    reply = JSON.parse(new TextDecoder().decode(message.data))
  } catch (error) {
    if (mayWait && (error as Error).name === 'TimeoutError') return 'waits'
    throw error
  }
  return codeIn(one, reply)
}

function codeIn({ as, subject }: NatsCase, reply: unknown): string {
  const { ok, error, stream } = reply as { ok?: boolean; error?: { code: string }; stream?: string }
  if (ok === true) return 'ok'
  // The broker's own answer to what goes into the queue; a header of its own may make it refuse.
  if (subject.startsWith('cmd.')) return stream === 'COMMANDS' ? 'queued' : 'not queued'
  if (error === undefined) throw new Error(`no answer of ours: ${JSON.stringify(reply).slice(0, 300)}`)
  // A worker's own trouble (a blob store that is not there) is no bad input.
  if (as === 'platform' && error.code === 'UNAVAILABLE') return error.code
  return checkRefusal(reply)
}
