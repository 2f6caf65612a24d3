/** What an operator sees of a running system: probes, metrics, logs, traces. */

import { randomBytes, randomUUID } from 'node:crypto'
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  utimesSync,
  writeFileSync,
} from 'node:fs'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { json } from 'node:stream/consumers'
import { afterAll, beforeAll, expect, test } from '@jest/globals'
import { connect } from '#libs/messaging'
import { newCommand, TestSystem, until } from './system.js'

interface Span {
  service: string
  name: string
  traceId: string
  spanId: string
  parentSpanId?: string
  attributes: { key: string; value: { stringValue?: string; intValue?: number } }[]
  status: { code?: number; message?: string }
}

/** A collector: takes OTLP over HTTP, as JSON, and keeps what arrives. */
const spans: Span[] = []
const collector = createServer(async (request, response) => {
  const body = (await json(request)) as {
    resourceSpans: {
      resource: { attributes: Span['attributes'] }
      scopeSpans: { spans: Omit<Span, 'service'>[] }[]
    }[]
  }
  for (const { resource, scopeSpans } of body.resourceSpans) {
    const service = resource.attributes.find(({ key }) => key === 'service.name')?.value.stringValue ?? ''
    spans.push(...scopeSpans.flatMap((scope) => scope.spans.map((span) => ({ ...span, service }))))
  }
  response.writeHead(200, { 'Content-Type': 'application/json' }).end('{}')
})

let system: TestSystem
beforeAll(async () => {
  await new Promise<void>((resolve) => collector.listen(0, '127.0.0.1', resolve))
  const { port } = collector.address() as AddressInfo
  const environment = { OTEL_EXPORTER_OTLP_ENDPOINT: `http://127.0.0.1:${port}` }
  system = await TestSystem.start({ schedulers: 2, environment })
}, 180_000)
afterAll(async () => {
  await system?.stop()
  collector.close()
}, 60_000)

const SERVICES = ['gateway', 'scheduler-1', 'scheduler-2', 'snapshotter', 'volume-syncer', 'worker-1']

async function probe(service: string, path: string): Promise<{ status: number; text: string }> {
  const found = system.system.services().find(({ name }) => name === service)
  if (!found?.metrics) throw new Error(`${service} has no port for probes`)
  const response = await fetch(found.metrics + path)
  return { status: response.status, text: await response.text() }
}

/** Series by name and labels, over all services; the same one of two services is summed up. */
async function scrape(): Promise<Map<string, number>> {
  const series = new Map<string, number>()
  for (const service of SERVICES) {
    for (const [, name, value] of (await probe(service, '/metrics')).text.matchAll(/^([a-z]\S*) (\S+)$/gm)) {
      series.set(name!, (series.get(name!) ?? 0) + Number(value))
    }
  }
  return series
}

test('the metrics of all services tell what the system did and what it has', async () => {
  const sandbox = await system.ok('create')
  await system.ok('exec', sandbox, '--', 'sh', '-c', 'head -c 100000 /dev/zero')
  expect((await system.run(['exec', 'sb-00000000000000000000000000', '--', 'true'])).code).toBe(3)
  const series = await until(async () => {
    const all = await scrape()
    return all.get('sandtrail_sandboxes{state="running"}') === 1 && all
  })
  for (const [name, expected] of [
    ['sandtrail_commands_total{command="sandbox.create",outcome="accepted"}', 1],
    ['sandtrail_commands_total{command="sandbox.exec",outcome="accepted"}', 1],
    ['sandtrail_command_accept_seconds_count{command="sandbox.exec"}', 1],
    ['sandtrail_sequencer_leader', 1],
    ['sandtrail_workers{state="active"}', 1],
    ['sandtrail_worker_sandboxes{state="running"}', 1],
    ['sandtrail_worker_create_step_seconds_count{step="run"}', 1],
    ['sandtrail_worker_create_step_seconds_count{step="total"}', 1],
    ['sandtrail_worker_exec_stage_seconds_count{stage="start"}', 1],
    ['sandtrail_worker_exec_stage_seconds_count{stage="total"}', 1],
    ['sandtrail_dead_letters', 0],
    ['sandtrail_consumer_pending_messages{consumer="scheduler"}', 0],
  ] as const) {
    expect([name, series.get(name)]).toEqual([name, expected])
  }
  expect(series.get('sandtrail_worker_spool_bytes')).toBeGreaterThanOrEqual(100_000)
  expect(series.get('sandtrail_worker_pool_bytes{state="free"}')).toBeGreaterThan(0)
  expect([...series.keys()].join('\n')).not.toMatch(/(sb|ex|wk|im)-[0-9A-Z]{26}/)
  // What follows goes to zero once it is done.
  await until(async () => {
    const all = await scrape()
    return ['sequencer_lag_events', 'publish_lag_events', 'worker_outbox_facts'].every(
      (name) => all.get(`sandtrail_${name}`) === 0,
    )
  })
  await system.ok('rm', sandbox)
}, 90_000)

test('every service is alive, ready while what it needs is there, and says what is not', async () => {
  for (const service of SERVICES) {
    expect([service, (await probe(service, '/healthz')).status]).toEqual([service, 200])
    await until(async () => (await probe(service, '/readyz')).status === 200)
  }
  await system.system.kill('nats')
  for (const service of SERVICES) {
    await until(async () => (await probe(service, '/readyz')).status === 503)
    const { checks } = JSON.parse((await probe(service, '/readyz')).text) as {
      checks: { name: string; ok: boolean }[]
    }
    expect([service, checks.find(({ name }) => name === 'broker')?.ok]).toEqual([service, false])
    expect((await probe(service, '/healthz')).status).toBe(200)
    expect((await probe(service, '/metrics')).status).toBe(200)
  }
  await system.system.start('nats')
  for (const service of SERVICES) await until(async () => (await probe(service, '/readyz')).status === 200)
}, 90_000)

type Line = Record<string, unknown>

function logOf(...services: string[]): Line[] {
  const found = system.system.services().filter(({ name }) => services.includes(name))
  return found.flatMap(({ log }) =>
    readFileSync(log, 'utf8')
      .split('\n')
      .filter((line) => line.startsWith('{'))
      .map((line) => JSON.parse(line) as Line),
  )
}

async function command(path: string, body: object, headers: Record<string, string> = {}) {
  const response = await fetch(system.env.SANDTRAIL_URL + path, {
    method: 'POST',
    headers: {
      Authorization: `Bearer ${system.env.SANDTRAIL_TOKEN}`,
      'Content-Type': 'application/json',
      ...headers,
    },
    body: JSON.stringify(body),
  })
  return (await response.json()) as { sandboxId: string; execId: string }
}

test("a command's id leads through the logs of gateway, scheduler and worker", async () => {
  const [creating, running] = [randomUUID(), randomUUID()]
  const { sandboxId } = await command('/v1/sandboxes', {}, { 'Idempotency-Key': creating })
  const exec = { argv: ['sh', '-c', 'exit 7'], env: { SECRET: 'canary-in-logs' }, waitMs: 30_000 }
  const { execId } = await command(`/v1/sandboxes/${sandboxId}/execs`, exec, { 'Idempotency-Key': running })

  const find = (services: string[], commandId: string) =>
    logOf(...services).filter((line) => line.commandId === commandId)
  const schedulers = ['scheduler-1', 'scheduler-2']
  expect(find(['gateway'], creating)).toMatchObject([
    { msg: 'command answered', command: 'sandbox.create', tenant: 'default', sandboxId },
  ])
  expect(find(schedulers, creating)).toMatchObject([
    { msg: 'command accepted', command: 'sandbox.create', tenant: 'default', sandboxId },
  ])
  expect(find(['worker-1'], creating)).toMatchObject([
    { msg: 'order taken', order: 'create', tenant: 'default', sandboxId },
    { msg: 'sandbox runs', tenant: 'default', sandboxId },
  ])
  expect(find(['gateway'], running)).toMatchObject([{ command: 'sandbox.exec', sandboxId, execId }])
  expect(find(schedulers, running)).toMatchObject([{ command: 'sandbox.exec', sandboxId, execId }])
  expect(find(['worker-1'], running)).toMatchObject([
    { msg: 'order taken', order: 'exec', tenant: 'default', sandboxId, execId },
    { msg: 'exec ended', tenant: 'default', sandboxId, execId, ending: 'exited', exitCode: 7 },
  ])
  // A field that stands twice in a line would be read differently by each reader.
  for (const service of ['gateway', ...schedulers, 'worker-1']) {
    const { log } = system.system.services().find(({ name }) => name === service)!
    const text = readFileSync(log, 'utf8')
    expect(text).not.toMatch(/"(tenant|commandId|sandboxId|execId)":[^\n]*"\1":/)
    expect(text).not.toContain('canary-in-logs')
  }
  await system.ok('rm', sandboxId)
}, 60_000)

test('a trace leads from the caller over gateway, scheduler and worker to the exec', async () => {
  const traceId = randomBytes(16).toString('hex')
  const callers = `00-${traceId}-${randomBytes(8).toString('hex')}-01`
  const { sandboxId } = await command('/v1/sandboxes', {}, { traceparent: callers })
  const exec = { argv: ['sh', '-c', 'exit 7'], env: { SECRET: 'canary-in-traces' }, waitMs: 30_000 }
  const { execId } = await command(`/v1/sandboxes/${sandboxId}/execs`, exec, { traceparent: callers })

  const ours = () => spans.filter((span) => span.traceId === traceId)
  const find = (name: string) => ours().find((span) => span.name === name)
  await until(() => find('exec') && find('create') && find('decide sandbox.exec') && find('sandbox.exec'))
  const chain = ['exec', 'order exec', 'decide sandbox.exec', 'sandbox.exec'].map(find)
  expect(chain.map((span) => span?.service)).toEqual([
    'runtime-worker',
    'runtime-worker',
    'scheduler',
    'gateway',
  ])
  for (const [child, parent] of [
    [0, 1],
    [1, 2],
    [2, 3],
  ] as const) {
    expect(chain[child]?.parentSpanId).toBe(chain[parent]?.spanId)
  }
  expect(chain[3]?.parentSpanId).toBe(callers.split('-')[2])
  const attributes = Object.fromEntries(
    chain[0]!.attributes.map(({ key, value }) => [key, Object.values(value)[0]]),
  )
  expect(attributes).toMatchObject({
    'sandtrail.sandbox_id': sandboxId,
    'sandtrail.exec_id': execId,
    'process.exit.code': 7,
  })
  const step = find('create: run')
  expect(step?.parentSpanId).toBe(find('create')?.spanId)
  expect(find('create')?.parentSpanId).toBe(find('order create')?.spanId)

  // The events name the span that decided them, so that the trail leads to the trace.
  const history = await system.json<{ type: string; traceparent: string }[]>('history', execId)
  const requested = history.find(({ type }) => type === 'ExecRequested')
  expect(requested?.traceparent).toBe(`00-${traceId}-${chain[2]?.spanId}-01`)
  expect(JSON.stringify(spans)).not.toContain('canary-in-traces')
  expect(JSON.stringify(spans)).not.toContain('exit 7')
  await system.ok('rm', sandboxId)
}, 60_000)

test('a trace comes in by NATS too, and a refusal marks its span', async () => {
  const traceId = randomBytes(16).toString('hex')
  const nats = await system.nats()
  const headers = { ...newCommand(), traceparent: `00-${traceId}-${randomBytes(8).toString('hex')}-01` }
  const asking = nats.request(
    'req.sandbox.terminate',
    { sandboxId: 'sb-00000000000000000000000000' },
    { headers },
  )
  await expect(asking).rejects.toMatchObject({ code: 'SANDBOX_NOT_FOUND' })
  await nats.close()
  const span = await until(() => spans.find((one) => one.traceId === traceId))
  expect(span).toMatchObject({
    service: 'scheduler',
    name: 'decide sandbox.terminate',
    status: { code: 2, message: 'SANDBOX_NOT_FOUND' },
  })
}, 60_000)

test('a worker is cordoned, drained and uncordoned by an operator, and its history says by whom', async () => {
  const [worker] = await system.json<{ workerId: string; state: string }[]>('worker', 'ls')
  const { workerId } = worker!
  expect(worker).toMatchObject({ state: 'active' })
  const sandbox = await system.ok('create')
  await system.ok('worker', 'cordon', workerId, '--reason', 'new kernel')
  expect(await system.run(['create'])).toMatchObject({
    code: 6,
    stderr: expect.stringContaining('worker ls'),
  })
  expect((await system.run(['exec', sandbox, '--', 'true'])).code).toBe(0)

  await system.ok('worker', 'drain', workerId, '--timeout', '1s')
  expect(await system.json('worker', 'ls')).toMatchObject([{ state: 'drained', sandboxes: 0 }])
  const stop = (await system.history(sandbox)).find(({ type }) => type === 'SandboxStopRequested')
  expect(stop).toMatchObject({ data: { reason: 'drain' } })

  await system.ok('worker', 'uncordon', workerId)
  expect((await system.run(['run', '--', 'true'])).code).toBe(0)
  const history = await system.history(workerId)
  expect(history.map(({ type }) => type)).toEqual([
    'WorkerCordoned',
    'WorkerDrainRequested',
    'WorkerDrained',
    'WorkerUncordoned',
  ])
  expect(history[0]).toMatchObject({
    data: { reason: 'new kernel' },
    actor: expect.stringMatching(/^token:ak-/),
  })
  expect(await system.run(['verify'])).toMatchObject({ code: 0 })
}, 60_000)

test("what is an operator's is out of reach for a tenant's token and account", async () => {
  const token = await system.ok('token', 'create', 'plain')
  const response = await fetch(`${system.env.SANDTRAIL_URL}/v1/workers`, {
    headers: { Authorization: `Bearer ${token}` },
  })
  expect(response.status).toBe(403)
  const nats = await system.nats()
  const asking = nats.request('req.worker.list', {}, { headers: newCommand() })
  await expect(asking).rejects.toMatchObject({ code: 'UNAVAILABLE' })
  await nats.close()

  const { NATS_OPERATOR_USER: user, NATS_OPERATOR_PASSWORD: password } = system.env
  const credentials = { user: user!, password: password! }
  const operator = await connect({ servers: system.env.NATS_URL!, name: 'test', credentials })
  const { workers } = await operator.request('req.worker.list', {}, { headers: newCommand() })
  const [{ workerId }] = workers as [{ workerId: string }]
  await operator.request('req.worker.uncordon', { workerId }, { headers: newCommand() })
  await operator.close()
}, 60_000)

test('a dead letter is listed, shown, sent again and removed', async () => {
  const nats = await system.nats()
  const body = { image: 'base:latest', nonsense: true, env: { A: 'canary-in-dead-letter' } }
  await nats.publishCommand('cmd.sandbox.create', body, { 'Sandtrail-Expires-At': 'not a time' })
  await nats.close()
  type Letter = { seq: number; reason: string; tenant: string }
  const [letter] = await until(async () => {
    const letters = await system.json<Letter[]>('dead-letter', 'ls')
    return letters.length > 0 && letters
  })
  expect(letter).toMatchObject({ tenant: 'default', reason: expect.stringContaining('INVALID_ARGUMENT') })
  const shown = await system.ok('dead-letter', 'show', String(letter!.seq))
  expect(shown).toContain('nonsense')
  expect(shown).not.toContain('canary')
  // It never had an id, so nobody would hear of its refusal.
  const redriven = await system.run(['dead-letter', 'redrive', String(letter!.seq)])
  expect(redriven).toMatchObject({ code: 2, stderr: expect.stringContaining('dead-letter rm') })
  await system.ok('dead-letter', 'rm', String(letter!.seq))
  expect(await system.json('dead-letter', 'ls')).toEqual([])
}, 60_000)

test('what is past keeping is told by a dry run, and removed by the next; what is needed stays', async () => {
  const { dir } = system.system
  const old = Date.now() / 1000 - 8 * 24 * 3_600
  const age = (path: string) => {
    for (const entry of readdirSync(path, { recursive: true, withFileTypes: true })) {
      utimesSync(join(entry.parentPath, entry.name), old, old)
    }
    utimesSync(path, old, old)
  }
  const sandbox = await system.ok('create')
  await system.ok('exec', sandbox, '--', 'echo', 'kept for a week')
  await system.ok('rm', sandbox)
  const spool = join(dir, 'workers', '1', 'spool')
  age(join(spool, sandbox))
  // The base image's blob is as old: a worker that joins will want it.
  age(join(dir, 'blobs'))
  const kept = readdirSync(join(dir, 'blobs'), { recursive: true }).length
  const stray = join(dir, 'blobs', 'ff', 'f'.repeat(64))
  mkdirSync(join(dir, 'blobs', 'ff'), { recursive: true })
  writeFileSync(stray, 'never imported')
  utimesSync(stray, old, old)

  const expected = { blobs: { count: 1, bytes: 14 }, workers: [{ execs: 1, bytes: 16, error: null }] }
  expect(await system.json('prune', '--dry-run')).toMatchObject({ dryRun: true, ...expected })
  expect([existsSync(stray), existsSync(join(spool, sandbox))]).toEqual([true, true])
  expect(await system.json('prune')).toMatchObject({ dryRun: false, ...expected })
  expect([existsSync(stray), existsSync(join(spool, sandbox))]).toEqual([false, false])
  expect(readdirSync(join(dir, 'blobs'), { recursive: true }).length).toBeGreaterThanOrEqual(kept)
  expect(await system.run(['verify'])).toMatchObject({ code: 0 })
}, 60_000)

test('doctor finds all well, and tells an operator of each thing that is not, and what to do', async () => {
  interface Check {
    name: string
    ok: boolean
    detail: string
    hint: string | null
  }
  const doctor = async () => {
    const { code, stdout, stderr } = await system.run(['doctor', '-o', 'json'])
    const { checks } = JSON.parse(stdout || stderr) as { checks: Check[] }
    return { code, wrong: checks.filter(({ ok }) => !ok), names: checks.map(({ name }) => name) }
  }
  const { code, wrong, names } = await until(async () => {
    const found = await doctor()
    return found.code === 0 && found
  })
  expect({ code, wrong }).toEqual({ code: 0, wrong: [] })
  expect(names).toEqual(
    expect.arrayContaining([
      'clock',
      'durability',
      'clocks',
      'sequencer',
      'public URL',
      'dead letters',
      'trail copy',
    ]),
  )

  const settings = mkdtempSync(join(tmpdir(), 'sandtrail-settings-'))
  mkdirSync(join(settings, 'sandtrail'))
  writeFileSync(join(settings, 'sandtrail', 'config.json'), '{"url":"http://x","token":"t"}', { mode: 0o644 })
  process.env.XDG_CONFIG_HOME = settings
  const nats = await system.nats()
  await nats.publishCommand('cmd.sandbox.create', {}, { 'Sandtrail-Expires-At': 'not a time' })
  await nats.close()
  await system.system.kill('worker-1')
  const found = await until(async () => {
    const { wrong: now } = await doctor()
    return now.length === 3 && now
  })
  delete process.env.XDG_CONFIG_HOME
  rmSync(settings, { recursive: true })
  expect(found).toEqual([
    {
      name: 'settings',
      ok: false,
      detail: expect.stringContaining('read by others'),
      hint: expect.stringContaining('chmod'),
    },
    {
      name: 'dead letters',
      ok: false,
      detail: expect.any(String),
      hint: expect.stringContaining('dead-letter ls'),
    },
    {
      name: expect.stringMatching(/^wk-/),
      ok: false,
      detail: expect.stringMatching(/gets no new sandbox|cannot be reached/),
      hint: expect.stringContaining('the log of the runtime-worker on'),
    },
  ])
  await system.system.start('worker-1')
  const [letter] = await system.json<{ seq: number }[]>('dead-letter', 'ls')
  await system.ok('dead-letter', 'rm', String(letter!.seq))
  await until(async () => (await doctor()).code === 0)
}, 120_000)
