import { randomBytes, randomUUID } from 'node:crypto'
import { afterAll, beforeAll, expect, test } from '@jest/globals'
import { makeId, PLATFORM_TENANT } from '#libs/domain'
import {
  append,
  ensureTenant,
  findTenant,
  lastPosition,
  listRefusals,
  setTenantLimits,
} from '#libs/event-store'
import { commandHeaders, subjects } from '#libs/messaging'
import { event, request } from '../../libs/event-store/testing-requests.js'
import { ExecWaiters } from './exec-waiters.js'
import { startTestScheduler, TENANT, type TestScheduler, type TestWorker } from './testing.js'

let scheduler: TestScheduler
let worker: TestWorker

beforeAll(async () => {
  scheduler = await startTestScheduler()
  worker = await scheduler.worker()
  await scheduler.image('base:latest', [worker.workerId])
})
afterAll(() => scheduler?.stop())

const MIB = 1024 ** 2
const output = {
  bytes: 0,
  droppedBytes: 0,
  sha256: 'e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855',
}
const exited = (execId: string, exitCode = 0) => ({
  kind: 'exec-ended' as const,
  execId: execId as `ex-${string}`,
  ending: {
    kind: 'exited' as const,
    exitCode,
    signal: null,
    reason: 'exit' as const,
    stdout: output,
    stderr: output,
  },
})
const stopped = { kind: 'sandbox-ended' as const, ending: { kind: 'stopped' as const }, staged: [] }
const started = { kind: 'sandbox-started' as const, volumes: [] }

async function until<T>(look: () => Promise<T | false | undefined>): Promise<T> {
  for (;;) {
    const found = await look()
    if (found) return found
    await new Promise((resolve) => setTimeout(resolve, 100))
  }
}

/** An env of as many values, each 100 KiB. */
const manyOf = (n: number) =>
  Object.fromEntries(Array.from({ length: n }, (_, i) => [`A${i}`, 'x'.repeat(100 * 1024)]))

const makeApp = async () => String((await scheduler.askApp('create', { kind: 'deployed' })).appId)

async function createSandbox(body: object = {}): Promise<string> {
  // On a busy machine the tests before took longer than a silent worker gets anything new.
  await worker.heartbeat()
  return String((await scheduler.ask('create', body)).sandboxId)
}

test('a whole life: the order reaches the worker, its facts become events, the worker gets its room back', async () => {
  const sandboxId = await createSandbox({ env: { TOKEN: 'canary-1' }, memoryBytes: 256 * MIB })
  const create = await worker.order('create', sandboxId)
  expect(worker.open(create.secrets)).toEqual({ env: { TOKEN: 'canary-1' } })
  await worker.report(sandboxId, [started])

  const { execId } = await scheduler.ask('exec', { sandboxId, argv: ['true'], env: { MORE: 'canary-2' } })
  const exec = await worker.order('exec', sandboxId)
  expect(worker.open(exec.secrets)).toEqual({ env: { TOKEN: 'canary-1', MORE: 'canary-2' } })
  await worker.report(sandboxId, [
    { kind: 'exec-started', execId: execId as `ex-${string}`, pid: 2 },
    exited(String(execId), 3),
  ])

  await scheduler.ask('terminate', { sandboxId })
  await worker.order('stop', sandboxId)
  await worker.report(sandboxId, [stopped, { kind: 'sandbox-cleaned-up', leftovers: [] }])

  expect(await scheduler.types(sandboxId)).toEqual([
    'SandboxCreated',
    'SandboxPlaced',
    'SandboxStarted',
    'SandboxStopRequested',
    'SandboxTerminated',
    'SandboxCleanedUp',
  ])
  expect(await scheduler.types(String(execId))).toEqual(['ExecRequested', 'ExecStarted', 'ExecExited'])
  const { rows } = await scheduler.db.pool.query('select 1 from reservations where sandbox_id = $1', [
    sandboxId,
  ])
  expect(rows).toEqual([])
  const { rows: leaks } = await scheduler.db.pool.query(
    "select 1 from events where data::text like '%canary-%'",
  )
  expect(leaks).toEqual([])
})

test("a sandbox starts from the platform's image, from the tenant's own of that name first, and from no other tenant's", async () => {
  const shared = await scheduler.image('tools:1', [worker.workerId], PLATFORM_TENANT)
  const theirs = await scheduler.image('private:1', [worker.workerId], 'umbrella')
  const imageOf = async (image: string) => {
    const id = await createSandbox({ image })
    const [created] = await scheduler.events(id)
    await worker.report(id, [stopped])
    return (created!.data as { spec: { image: object } }).spec.image
  }
  expect(await imageOf('tools:1')).toEqual({ imageId: shared, ref: 'tools:1' })
  expect(await imageOf(shared)).toEqual({ imageId: shared, ref: shared })
  const refusal = (image: string) =>
    createSandbox({ image }).catch(({ code, message }) => ({ code, message }))
  const unknown = 'im-01J00000000000000000000000'
  expect(await refusal(theirs)).toEqual({ code: 'IMAGE_NOT_FOUND', message: `no image has the id ${theirs}` })
  expect(await refusal(unknown)).toEqual({
    code: 'IMAGE_NOT_FOUND',
    message: `no image has the id ${unknown}`,
  })
  expect(await refusal('private:1')).toMatchObject({ code: 'IMAGE_NOT_FOUND' })
  const own = await scheduler.image('tools:1', [worker.workerId])
  expect(await imageOf('tools:1')).toEqual({ imageId: own, ref: 'tools:1' })
})

test('a quota of open execs refuses by name, and an end makes room', async () => {
  const sandboxId = await createSandbox()
  const exec = () => scheduler.ask('exec', { sandboxId, argv: ['true'] })
  await worker.report(sandboxId, [started])
  const { execs } = (await findTenant(scheduler.db.pool, TENANT))!.used
  await setTenantLimits(scheduler.db.pool, TENANT, { execs: execs + 2 })
  const tries = await Promise.allSettled(Array.from({ length: 6 }, exec))
  const accepted = tries.filter((one) => one.status === 'fulfilled')
  expect(accepted).toHaveLength(2)
  expect(tries.find((one) => one.status === 'rejected')?.reason).toMatchObject({
    code: 'QUOTA_EXCEEDED',
    message: `the quota execs of the tenant is ${execs + 2}: ${execs + 2} in use, 1 asked for`,
    retryable: true,
    retryAfterMs: expect.any(Number),
  })
  await worker.report(sandboxId, [
    { kind: 'exec-started', execId: accepted[0]!.value.execId as `ex-${string}`, pid: 2 },
    exited(String(accepted[0]!.value.execId)),
  ])
  await exec()
  await expect(exec()).rejects.toMatchObject({ code: 'QUOTA_EXCEEDED' })
  await setTenantLimits(scheduler.db.pool, TENANT, { execs: null })

  // The rest end with their sandbox, whoever tells.
  await scheduler.ask('terminate', { sandboxId })
  await worker.report(sandboxId, [stopped])
  for (;;) {
    if ((await findTenant(scheduler.db.pool, TENANT))!.used.execs === execs) break
    await new Promise((resolve) => setTimeout(resolve, 20))
  }
})

test('a sandbox over the quota is refused with the quota, and one that can never fit is not to be tried again', async () => {
  const memoryBytes = 256 * MIB
  const { used } = (await findTenant(scheduler.db.pool, TENANT))!
  await setTenantLimits(scheduler.db.pool, TENANT, { memoryBytes: used.memoryBytes + memoryBytes })
  await expect(createSandbox({ memoryBytes: used.memoryBytes + 2 * memoryBytes })).rejects.toMatchObject({
    code: 'QUOTA_EXCEEDED',
    message: expect.stringContaining('memoryBytes'),
  })
  const id = await createSandbox({ memoryBytes })
  await expect(createSandbox({ memoryBytes })).rejects.toMatchObject({
    code: 'QUOTA_EXCEEDED',
    retryable: true,
  })
  await scheduler.ask('terminate', { sandboxId: id })
  await worker.order('stop', id)
  await worker.report(id, [stopped])
  await worker.report(await createSandbox({ memoryBytes }), [stopped])
  await setTenantLimits(scheduler.db.pool, TENANT, { memoryBytes: null })
})

test('commands beyond the rate are refused with a time to come back, asked for or queued, and are recorded', async () => {
  const tenant = 'limited'
  await ensureTenant(scheduler.db.pool, tenant)
  await setTenantLimits(scheduler.db.pool, tenant, { commandsPerSecond: 1, commandsBurst: 1 })
  const headers = () => commandHeaders({ commandId: randomUUID(), expiresAt: new Date(Date.now() + 60_000) })
  const body = { sandboxId: 'sb-01J00000000000000000000000' }
  const ask = () =>
    scheduler.client
      .request(subjects.request(tenant, 'sandbox', 'terminate'), body, { headers: headers() })
      .catch((error) => error)
  const answers = await Promise.all(Array.from({ length: 20 }, ask))
  const refused = answers.filter(({ code }) => code === 'RESOURCE_EXHAUSTED')
  expect(answers.map(({ code }) => code)).toContain('SANDBOX_NOT_FOUND')
  expect(refused.length).toBeGreaterThan(10)
  expect(refused[0]).toMatchObject({ retryable: true, retryAfterMs: expect.any(Number) })

  const id = randomUUID()
  const heard = new Promise((resolve) => scheduler.client.subscribe(subjects.outcome(tenant, id), resolve))
  await scheduler.client.connection.flush()
  const queued = commandHeaders({ commandId: id, expiresAt: new Date(Date.now() + 60_000) })
  const publishing = scheduler.client.publishCommand(
    subjects.command(tenant, 'sandbox', 'terminate'),
    body,
    queued,
  )
  await Promise.all([...Array.from({ length: 5 }, ask), publishing])
  expect(await heard).toMatchObject({
    error: { code: 'RESOURCE_EXHAUSTED', retryAfterMs: expect.any(Number) },
  })

  const recorded = (of: string, code: string) =>
    until(async () => {
      const rows = await listRefusals(scheduler.db.pool, { tenant: of, since: null, limit: 100 })
      return rows.find((row) => row.code === code)
    })
  expect(await recorded(tenant, 'RESOURCE_EXHAUSTED')).toMatchObject({
    action: 'sandbox.terminate',
    detail: 'commands',
  })
  // Of the tests above.
  expect((await recorded(TENANT, 'QUOTA_EXCEEDED')).detail).toMatch(/execs|memoryBytes/)
  // Nobody else was held up.
  await expect(scheduler.ask('terminate', body)).rejects.toMatchObject({ code: 'SANDBOX_NOT_FOUND' })
}, 60_000)

test('a volume that is removed while a sandbox is created is not mounted', async () => {
  const volumeId = makeId('vo', Date.now(), randomBytes(10))
  const created = { name: 'raced', workerId: worker.workerId }
  await append(
    scheduler.db.pool,
    request({
      tenant: TENANT,
      writes: [{ stream: volumeId, expectedVersion: 0, events: [event('VolumeCreated', created)] }],
      claims: { take: [{ kind: 'volume-name', key: 'raced', holder: volumeId }] },
    }),
  )
  const removal = await scheduler.db.pool.connect()
  await removal.query('begin')
  await removal.query(`delete from claims where key = 'raced'`)
  let answered = false
  const create = createSandbox({ volumes: [{ volume: 'raced', path: '/data' }] }).finally(() => {
    answered = true
  })
  const refused = expect(create).rejects.toMatchObject({ code: 'VOLUME_NOT_FOUND' })
  const isWaiting = `select from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'`
  while (!answered && (await scheduler.db.pool.query(isWaiting)).rows.length === 0) {
    await new Promise((resolve) => setTimeout(resolve, 20))
  }
  const writes = [{ stream: volumeId, expectedVersion: 1, events: [event('VolumeRemoved')] }]
  await append(scheduler.db.pool, request({ tenant: TENANT, writes }))
  await removal.query('commit')
  removal.release()
  await refused
})

test('the same create, sent ten times at once by both ways, is one sandbox', async () => {
  const id = randomUUID()
  const body = { tags: { test: 'ten' } }
  const outcomes = await Promise.all([
    ...Array.from({ length: 9 }, () => scheduler.ask('create', body, { id })),
    scheduler.queue('create', body, id).then(() => scheduler.ask('create', body, { id })),
  ])
  expect(new Set(outcomes.map(({ sandboxId }) => sandboxId)).size).toBe(1)
  const { rows } = await scheduler.db.pool.query(
    "select 1 from events where type = 'SandboxCreated' and meta->>'commandId' = $1",
    [id],
  )
  expect(rows).toHaveLength(1)
})

test('a queued command tells its outcome to whoever listens, a refusal too', async () => {
  const outcome = async (id: string, body: object) => {
    const heard = new Promise((resolve) => scheduler.client.subscribe(subjects.outcome(TENANT, id), resolve))
    await scheduler.client.connection.flush()
    await scheduler.queue('create', body, id)
    return heard
  }
  expect(await outcome(randomUUID(), {})).toMatchObject({ ok: true })
  expect(await outcome(randomUUID(), { image: 'nowhere:1' })).toMatchObject({
    error: { code: 'IMAGE_NOT_FOUND' },
  })
})

test.each([
  ['an unknown field', { memroyBytes: 1 }, 'INVALID_ARGUMENT', 'memroyBytes'],
  ['a bad path', { volumes: [{ volume: 'v', path: '../x' }] }, 'INVALID_ARGUMENT', 'volumes.0.path'],
  ['an unknown image', { image: 'nope' }, 'IMAGE_NOT_FOUND', 'nope'],
  ['a volume that is not there', { volumes: [{ volume: 'v', path: '/v' }] }, 'VOLUME_NOT_FOUND', '"v"'],
  ['a lifetime over 24 h', { timeoutMs: 86_400_001 }, 'INVALID_ARGUMENT', 'timeoutMs'],
  ['the VM runtime', { runtime: 'vm' }, 'UNIMPLEMENTED', 'VM'],
  ['an env too large in all', { env: manyOf(3) }, 'INVALID_ARGUMENT', 'env'],
  [
    'what fits into no order',
    { env: manyOf(2), command: Array(8).fill('x'.repeat(MIB / 10.5)) },
    'PAYLOAD_TOO_LARGE',
    'env',
  ],
  ['NUL in an argument', { command: ['a\0b'] }, 'INVALID_ARGUMENT', 'command.0'],
])('%s is refused with a code, and the field is named', async (_, body, code, named) => {
  await expect(scheduler.ask('create', body)).rejects.toMatchObject({
    code,
    message: expect.stringContaining(named),
  })
})

test('a refusal is stored: the re-send hears it though the reason has gone', async () => {
  const id = randomUUID()
  await expect(scheduler.ask('create', { image: 'later:1' }, { id })).rejects.toMatchObject({
    code: 'IMAGE_NOT_FOUND',
  })
  await scheduler.image('later:1', [worker.workerId])
  await expect(scheduler.ask('create', { image: 'later:1' }, { id })).rejects.toMatchObject({
    code: 'IMAGE_NOT_FOUND',
  })
  await expect(scheduler.ask('create', { image: 'later:1' })).resolves.toMatchObject({ ok: true })
})

test('a used id with another body, and a command after its expiry, are refused', async () => {
  const id = randomUUID()
  await scheduler.ask('create', { tags: { a: '1' } }, { id })
  await expect(scheduler.ask('create', { tags: { a: '2' } }, { id })).rejects.toMatchObject({
    code: 'COMMAND_ID_REUSED',
  })
  const past = new Date(Date.now() - 1)
  await expect(scheduler.ask('create', {}, { expiresAt: past })).rejects.toMatchObject({
    code: 'COMMAND_EXPIRED',
  })
  const far = new Date(Date.now() + 25 * 3_600_000)
  await expect(scheduler.ask('create', {}, { expiresAt: far })).rejects.toMatchObject({
    code: 'INVALID_ARGUMENT',
  })
})

test('a name is one live sandbox, and free again after its end', async () => {
  const sandboxId = await createSandbox({ name: 'web' })
  await expect(scheduler.ask('create', { name: 'web' })).rejects.toMatchObject({ code: 'NAME_TAKEN' })
  await worker.report(sandboxId, [stopped])
  await expect(scheduler.ask('create', { name: 'web' })).resolves.toMatchObject({ ok: true })
})

test('an app that nobody made takes no sandbox', async () => {
  await expect(scheduler.ask('create', { appId: makeId('ap', 1, randomBytes(10)) })).rejects.toMatchObject({
    code: 'APP_NOT_FOUND',
  })
})

test('a name is one live sandbox of an app, and free again after its end', async () => {
  const [one, other] = (await Promise.all([makeApp(), makeApp()])) as [string, string]
  const sandboxId = await createSandbox({ name: 'in-app', appId: one })
  await expect(scheduler.ask('create', { name: 'in-app', appId: one })).rejects.toMatchObject({
    code: 'NAME_TAKEN',
    message: expect.stringContaining(one),
  })
  await createSandbox({ name: 'in-app', appId: other })
  await createSandbox({ name: 'in-app' })
  await worker.report(sandboxId, [stopped])
  await createSandbox({ name: 'in-app', appId: one })
})

test('all tags are replaced, also after the end', async () => {
  const sandboxId = await createSandbox({ tags: { a: '1', b: '2' } })
  await scheduler.ask('tag', { sandboxId, tags: { a: '3' } })
  const again = await scheduler.ask('tag', { sandboxId, tags: { a: '3' } })
  await worker.report(sandboxId, [started, stopped])
  await scheduler.ask('tag', { sandboxId, tags: {} })
  expect(again).toMatchObject({ sandboxId, version: 3 })
  const events = await scheduler.events(sandboxId)
  const tagged = events.filter(({ type }) => type === 'SandboxTagged')
  expect(tagged.map(({ data, version }) => [version, data.tags])).toEqual([
    [3, { a: '3' }],
    [6, {}],
  ])
})

test('a sandbox without a name gets one while it lives, which its end gives back', async () => {
  const sandboxId = await createSandbox()
  await scheduler.ask('name', { sandboxId, name: 'later' })
  await expect(scheduler.ask('name', { sandboxId, name: 'later' })).resolves.toMatchObject({ version: 3 })
  const refused = (id: string, name: string) => expect(scheduler.ask('name', { sandboxId: id, name })).rejects
  await refused(sandboxId, 'another').toMatchObject({ code: 'ALREADY_NAMED' })
  await refused(await createSandbox(), 'later').toMatchObject({ code: 'NAME_TAKEN' })
  await worker.report(sandboxId, [stopped])
  await refused(sandboxId, 'later').toMatchObject({ code: 'SANDBOX_GONE' })
  await createSandbox({ name: 'later' })
})

test('a report of a stale epoch, or about the sandbox of another worker, is fenced', async () => {
  const sandboxId = await createSandbox()
  const owner = await worker.order('create', sandboxId)
  expect(owner.epoch).toBe(1)
  expect(await worker.report(sandboxId, [started], 2)).toMatchObject({ fenced: true })
  const other = await scheduler.worker({ memoryBytes: 1 })
  expect(await other.report(sandboxId, [started])).toMatchObject({ fenced: true })
  expect(await scheduler.types(sandboxId)).toEqual(['SandboxCreated', 'SandboxPlaced'])
})

test('facts that are reported again are accepted again and change nothing', async () => {
  const sandboxId = await createSandbox()
  const facts = [started, stopped, { kind: 'sandbox-cleaned-up' as const, leftovers: [] }]
  await worker.report(sandboxId, facts)
  const before = await scheduler.events(sandboxId)
  expect(await worker.reportFrom(1, sandboxId, facts)).toEqual({ ok: true, acceptedTo: 3, fenced: false })
  expect(await scheduler.events(sandboxId)).toHaveLength(before.length)
})

test('a worker that lost its state, and counts its facts from 1 again, can still tell the end', async () => {
  const sandboxId = await createSandbox()
  await worker.report(sandboxId, [started])
  const facts = [stopped, { kind: 'sandbox-cleaned-up' as const, leftovers: [] }]
  expect(await worker.reportFrom(1, sandboxId, facts)).toEqual({ ok: true, acceptedTo: 2, fenced: false })
  const ends = ['SandboxStarted', 'SandboxTerminated', 'SandboxCleanedUp']
  expect((await scheduler.types(sandboxId)).slice(-3)).toEqual(ends)
})

test('no exec is accepted for a sandbox that is ending, and a terminate that overtakes its create wins', async () => {
  const sandboxId = await createSandbox()
  await scheduler.ask('terminate', { sandboxId })
  await expect(scheduler.ask('exec', { sandboxId, argv: ['true'] })).rejects.toMatchObject({
    code: 'SANDBOX_GONE',
  })
  await worker.report(sandboxId, [stopped])
  expect((await scheduler.types(sandboxId)).at(-1)).toBe('SandboxTerminated')
})

test('the answer to a heartbeat is what the worker lacks, and what it should not have', async () => {
  const fresh = await scheduler.worker({ memoryBytes: 64 * 1024 * MIB })
  await scheduler.image('fresh:1', [fresh.workerId])
  const [wanted, closing] = [
    await createSandbox({ image: 'fresh:1' }),
    await createSandbox({ image: 'fresh:1' }),
  ]
  await scheduler.ask('terminate', { sandboxId: closing })
  const stranger = 'sb-01ARZ3NDEKTSV4RRFFQ69G5FAV' as const
  fresh.sandboxes = [{ sandboxId: stranger, tenant: TENANT, epoch: 1, state: 'running' }]
  const orders = (await fresh.heartbeat()).map(({ kind, sandboxId }) => `${kind} ${sandboxId}`)
  expect(orders).toEqual([`stop ${stranger}`, `stop ${closing}`, `create ${wanted}`])
})

test('orders too large for one reply come in several, and hold up nothing else', async () => {
  const fresh = await scheduler.worker({ memoryBytes: 64 * 1024 * MIB })
  await scheduler.image('large:1', [fresh.workerId])
  const wanted = await Promise.all(
    Array.from({ length: 5 }, () => createSandbox({ image: 'large:1', env: manyOf(2) })),
  )
  const seen = new Set<string>()
  while (seen.size < wanted.length) {
    const orders = await fresh.heartbeat()
    expect(orders.length).toBeGreaterThan(0)
    for (const { sandboxId } of orders) seen.add(sandboxId)
    fresh.sandboxes = [...seen].map((id) => ({
      sandboxId: id as `sb-${string}`,
      epoch: 1,
      tenant: TENANT,
      state: 'starting',
    }))
  }
  expect([...seen].sort()).toEqual(wanted.sort())
  await worker.heartbeat()
})

test('an exec whose order fits into no message is refused: it could never start', async () => {
  const sandboxId = await createSandbox({ env: manyOf(2) })
  await worker.report(sandboxId, [started])
  const exec = { sandboxId, argv: ['cat'], stdin: 'inline', stdinBase64: 'x'.repeat(340_000) }
  await expect(scheduler.ask('exec', { ...exec, env: manyOf(2) })).rejects.toMatchObject({
    code: 'PAYLOAD_TOO_LARGE',
  })
  const { execId } = await scheduler.ask('exec', exec)
  expect((await worker.order('exec', sandboxId)).execId).toBe(execId)
})

test('memory is never promised twice, also by two schedulers at once', async () => {
  const small = await scheduler.worker({ memoryBytes: 300 * MIB })
  await scheduler.image('small:1', [small.workerId])
  await scheduler.startAnother()
  const asked = Array.from({ length: 8 }, () =>
    scheduler.ask('create', { image: 'small:1', memoryBytes: 100 * MIB }),
  )
  const results = await Promise.allSettled(asked)
  expect(results.filter(({ status }) => status === 'fulfilled')).toHaveLength(3)
  for (const result of results) {
    if (result.status === 'rejected')
      expect(result.reason).toMatchObject({ code: expect.stringMatching(/NO_CAPACITY|STREAM_BUSY/) })
  }
})

test('an exec that is waited for within its call answers with its end', async () => {
  const sandboxId = await createSandbox()
  await worker.report(sandboxId, [started])
  const answer = scheduler.ask('exec', { sandboxId, argv: ['true'], waitMs: 10_000 })
  const { execId } = await worker.order('exec', sandboxId)
  await worker.report(sandboxId, [exited(execId, 7)])
  expect(await answer).toMatchObject({ execId, exec: { status: 'ended', by: 'ExecExited', exitCode: 7 } })
})

test('a re-send with another wait is a re-send', async () => {
  const sandboxId = await createSandbox()
  await worker.report(sandboxId, [started])
  const id = randomUUID()
  const body = { sandboxId, argv: ['true'] }
  const first = await scheduler.ask('exec', { ...body, waitMs: 1 }, { id })
  expect(first).toMatchObject({ exec: null })
  expect(await scheduler.ask('exec', body, { id })).toMatchObject({ execId: first.execId })
  await expect(scheduler.ask('exec', { ...body, waitMs: -1 })).rejects.toMatchObject({
    code: 'INVALID_ARGUMENT',
  })
})

test('no tenant waits in all places, and nobody waits for a scheduler that stops', async () => {
  const waiters = new ExecWaiters(scheduler.db.pool, 1)
  const execId = 'ex-01ARZ3NDEKTSV4RRFFQ69G5FAV' as const
  const first = waiters.wait(TENANT, execId, 300_000)
  expect(await waiters.wait(TENANT, execId, 300_000)).toBeNull()
  const other = waiters.wait('other', execId, 300_000)
  waiters.close()
  expect(await Promise.all([first, other])).toEqual([null, null])
  expect(await waiters.wait(TENANT, execId, 0)).toBeNull()
})

test('every event gets a position, and the positions have no gap', async () => {
  const { rows } = await scheduler.db.pool.query<{ count: string }>('select count(*) from events')
  const events = BigInt(rows[0]!.count)
  while ((await lastPosition(scheduler.db.pool)) < events)
    await new Promise((resolve) => setImmediate(resolve))
  const { rows: ledger } = await scheduler.db.pool.query(
    'select count(*)::int as n, max(position)::int as last from ledger',
  )
  expect(ledger[0].n).toBe(ledger[0].last)
})
