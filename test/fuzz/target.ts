/**
 * A whole system to throw things at: a tenant with a living sandbox, an operator, a worker whose process is gone so
 * that the test can speak with its key; and what must be true of it afterwards.
 */

import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { makeId } from '#libs/domain'
import { type Database, openDatabase } from '#libs/event-store'
import { type Credentials, connect, type Messaging } from '#libs/messaging'
import { check } from '../checker/check.js'
import { describeFinding } from '../checker/finding.js'
import { judgeHost, takeInventory } from '../checker/host.js'
import { readLog } from '../checker/log.js'
import { judgeStreams } from '../checker/streams.js'
import { newCommand, TestSystem, until } from '../system.js'

export type Things = Record<string, string>
export type Voice = 'tenant' | 'operator' | 'platform' | 'worker'

export interface Target {
  url: URL
  tokens: { tenant: string; operator: string }
  nats: Record<Voice, Messaging>
  /** What lives and must go on living, by what stands for it in a case. */
  things: Things
  /** What may be ended. */
  spare: Things
  /** Faults of the system after all that was done to it; none is []. */
  judge(): Promise<string[]>
  stop(): Promise<void>
}

/** Resident memory that a service may gain: its caches and what the collector has not yet come to. */
const GROWTH_MIB_MAX = 128
/** Half-done creates and starts have deadlines of a minute. */
const REST_MS_MAX = 120_000
/** By the service's own rule an error: a message that nobody can handle is kept for an operator, and told. */
const EXPECTED_ERRORS = new Set(['a queued command is dead'])

/** Puts things for what stands for them. */
export function fillIn(text: string, things: Things): string {
  let filled = text.replaceAll('"{spec}"', things.spec ?? 'null')
  for (const [name, value] of Object.entries(things)) filled = filled.replaceAll(`{${name}}`, value)
  return filled
}

export async function startTarget(): Promise<Target> {
  const environment = { SANDTRAIL_LEASE_GRACE_MS: '4000' }
  const system = await TestSystem.start({ workers: 2, environment })
  try {
    return await prepare(system)
  } catch (error) {
    await system.stop()
    throw error
  }
}

type Read = { sandbox: { state: string } }

async function prepare(system: TestSystem): Promise<Target> {
  const { env } = system
  const { dir } = system.system
  const key = (name: string) => readFileSync(join(dir, 'keys', name), 'utf8')
  const [worker, silent] = [key('worker-1.id'), key('worker-2.id')]
  // It takes no sandbox from here on, whatever is said in its name.
  await system.ok('worker', 'cordon', silent)
  await system.system.kill('worker-2')

  const none = ['--commands-per-second', 'none', '--requests-per-second', 'none']
  const tenant = await system.ok('tenant', 'create', 'fuzz', ...none, '--sandboxes', '4', '--execs', '20')
  await system.ok('tenant', 'create', 'spare')
  await system.ok('tenant', 'set', 'default', ...none, '--sandboxes', '2', '--execs', '20')
  const logins = await system.system.syncTenants()
  const open = (credentials: Credentials) => connect({ servers: env.NATS_URL!, name: 'fuzz', credentials })
  const nats = {
    tenant: await open(logins.fuzz as Credentials),
    operator: await open({ user: env.NATS_OPERATOR_USER!, password: env.NATS_OPERATOR_PASSWORD! }),
    platform: await open(JSON.parse(key('platform.json'))),
    worker: await open(JSON.parse(key('worker-2.json'))),
  }
  const db = openDatabase({ url: env.DATABASE_ADMIN_URL!, max: 4, name: 'checker' })

  const ask = async <T>(verb: string, body: object) =>
    (await nats.tenant.request(`req.${verb}`, body, { headers: newCommand(), timeoutMs: 30_000 })) as T
  await ask('volume.create', { name: 'kept' })
  await ask('volume.create', { name: 'lesser' })
  const volumes = [{ volume: 'kept', path: '/data' }]
  const { sandboxId } = await ask<{ sandboxId: string }>('sandbox.create', { name: 'kept', volumes })
  const { execId } = await ask<{ execId: string }>('sandbox.exec', {
    sandboxId,
    argv: ['cat'],
    stdin: 'open',
    waitMs: 1,
  })
  const [app, lesserApp] = await Promise.all(
    ['kept', 'lesser'].map((name) => ask<{ appId: string }>('app.create', { name, kind: 'deployed' })),
  )
  const ended = await ask<{ sandboxId: string }>('sandbox.create', { command: ['true'] })
  await until(async () => (await ask<Read>('sandbox.get', { sandboxId })).sandbox.state === 'running')
  const { stream: snapshot } = await ask<{ stream: string }>('snapshot.create', { sandboxId })
  const { rows } = await db.query<{ spec: object }>(
    "select data->'spec' as spec from events where stream = $1 and version = 1",
    [sandboxId],
  )

  const anId = (kind: string) => makeId(kind, 1, Buffer.alloc(10, 7))
  const things: Things = {
    sandbox: sandboxId,
    exec: execId,
    image: 'base:latest',
    volume: 'kept',
    app: app!.appId,
    worker,
    token: anId('ak'),
    tenant: 'spare',
    stream: sandboxId,
    seq: '1',
    sha256: 'a'.repeat(64),
    spec: JSON.stringify(rows[0]!.spec),
    nobody: anId('sb'),
    nothing: anId('ex'),
    silent,
  }
  const spare: Things = {
    ...things,
    sandbox: ended.sandboxId,
    image: snapshot,
    volume: 'lesser',
    app: lesserApp!.appId,
    worker: anId('wk'),
  }

  const pids = () => new Map(system.system.services().map(({ name, pid }) => [name, pid]))
  const before = { pids: pids(), memory: memoryOf(pids()) }
  return {
    url: new URL(env.SANDTRAIL_URL!),
    tokens: { tenant, operator: env.SANDTRAIL_TOKEN! },
    nats,
    things,
    spare,
    async judge() {
      const faults = [
        ...restarted(before.pids, pids()),
        ...grown(before.memory, memoryOf(pids())),
        ...loggedErrors(system),
      ]
      faults.push(...(await stillWorks(system, tenant, sandboxId)))
      await bringToRest(system, tenant, db)
      const { findings } = await check({
        db,
        messaging: nats.platform,
        history: [],
        trail: {
          databaseUrl: env.DATABASE_ADMIN_URL!,
          trailFile: env.SANDTRAIL_TRAIL_FILE!,
          publicKey: readFileSync(env.SANDTRAIL_TRAIL_PUBLIC_KEY!, 'utf8').trim(),
        },
        spools: readdirSync(join(dir, 'workers')).map((name) => join(dir, 'workers', name, 'spool')),
        drained: true,
      })
      const left = judgeHost(await takeInventory(system.system), new Set())
      // What cannot be read lies among the dead letters, as it should.
      const wrong = findings.filter(({ message }) => !message.startsWith('a dead letter for'))
      return [...faults, ...[...wrong, ...left].map(describeFinding)]
    },
    async stop() {
      await Promise.all([...Object.values(nats).map((one) => one.close()), db.end()])
      await system.stop()
    },
  }
}

/** Of each process, in MiB. Postgres and the broker keep what they like. */
function memoryOf(pids: ReadonlyMap<string, number>): Map<string, number> {
  const services = [...pids].filter(([name]) => name !== 'postgres' && name !== 'nats')
  return new Map(
    services.map(([name, pid]) => {
      const [, kib = '0'] = /VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, 'utf8')) ?? []
      return [name, Math.round(Number(kib) / 1024)]
    }),
  )
}

function grown(before: ReadonlyMap<string, number>, now: ReadonlyMap<string, number>): string[] {
  return [...now]
    .filter(([name, mib]) => mib - (before.get(name) ?? 0) > GROWTH_MIB_MAX)
    .map(([name, mib]) => `${name} grew from ${before.get(name)} to ${mib} MiB`)
}

function restarted(before: ReadonlyMap<string, number>, now: ReadonlyMap<string, number>): string[] {
  return [...before]
    .filter(([name, pid]) => now.get(name) !== pid)
    .map(([name]) => `${name} is not the process that it was`)
}

function loggedErrors(system: TestSystem): string[] {
  return system.system
    .services()
    .filter(({ name }) => name !== 'postgres' && name !== 'nats')
    .flatMap(({ name, log }) =>
      readFileSync(log, 'utf8')
        .split('\n')
        .filter(isError)
        .map((line) => `${name} logged ${line.slice(0, 2_000)}`),
    )
}

function isError(line: string): boolean {
  if (!line.startsWith('{')) return /\b(ERROR|Unhandled|TypeError)\b/.test(line)
  const { level, msg } = JSON.parse(line) as { level: number; msg: string }
  return level >= 50 && !EXPECTED_ERRORS.has(msg)
}

/** The sandbox from before lives and takes programs, a new one runs, by HTTP and through the queue. */
async function stillWorks(system: TestSystem, token: string, sandboxId: string): Promise<string[]> {
  const run = (...args: string[]) => system.run(args, { token })
  const faults: string[] = []
  const old = await run('exec', sandboxId, '--', 'echo', 'here')
  if (old.stdout !== 'here\n') faults.push(`the sandbox from before: ${old.code} ${old.stdout}${old.stderr}`)
  // What the fuzzers left alive holds the quota.
  await endAll(system, token)
  const fresh = await run('run', '--', 'echo', 'here')
  if (fresh.stdout !== 'here\n') faults.push(`a new sandbox: ${fresh.code} ${fresh.stdout}${fresh.stderr}`)
  return faults
}

async function endAll(system: TestSystem, token: string): Promise<void> {
  for (const each of [token, system.env.SANDTRAIL_TOKEN]) {
    const { stdout } = await system.run(['ps', '--quiet'], { token: each })
    const ids = stdout.split('\n').filter(Boolean)
    if (ids.length > 0) await system.run(['rm', ...ids], { token: each })
  }
}

async function bringToRest(system: TestSystem, token: string, db: Database): Promise<void> {
  const endAt = performance.now() + REST_MS_MAX
  await until(async () => {
    const { open } = judgeStreams((await readLog(db)).events)
    const left = judgeHost(await takeInventory(system.system), new Set())
    if ((open.size === 0 && left.length === 0) || performance.now() > endAt) return true
    await endAll(system, token)
    await delay(500)
    return false
  })
}
