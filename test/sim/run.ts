/**
 * One run: a small system, programs that use it, and a time of trouble; then the trouble stops, and within a bound of
 * virtual time everything must have come to its end (liveness) by the rules (safety).
 */

import { record } from '#libs/command-handling'
import { decideImage, evolveImage, imageAggregate, makeId, type WorkerId } from '#libs/domain'
import { append, commandHash, type JsonObject } from '#libs/event-store'
import { Broker } from './broker.js'
import { Client, TENANT } from './client.js'
import { Climate } from './climate.js'
import { Cluster } from './cluster.js'
import { Disk } from './disk.js'
import { forgetDescriptors } from './doubles/fs.js'
import { Machine } from './guest.js'
import * as invariants from './invariants.js'
import { Judge } from './judge.js'
import type { Surroundings } from './nodes.js'
import { type Env, Postgres } from './postgres/server.js'
import { Killed, SimProcess, World } from './world.js'

export interface RunResult {
  seed: number
  hash: string
  steps: number
  virtualMs: number
  commands: number
  events: number
  violations: string[]
}

const TROUBLE_MS = [5_000, 45_000] as const
/** The slowest way to an end after the trouble: a timer that has backed off to a minute, twice, and a lease. */
const ENDS_WITHIN_MS = 240_000
const LOOK_MS = 500

let running: World | null = null
/** In production a rejection that nobody hears ends the process; here it is a finding. */
process.on('unhandledRejection', (error) => {
  if (running && !isOfTheDead(error))
    running.violate(`unhandled rejection: ${(error as Error)?.stack ?? error}`)
})

export async function run(seed: number, { verbose = false } = {}): Promise<RunResult> {
  const world = new World(seed, verbose)
  running = world
  forgetDescriptors()
  const { random } = world
  const climate = new Climate(random)
  const postgres = new Postgres(envOf(world), climate.database)
  const broker = new Broker(world, climate.broker)
  const machines = Cluster.machines({ world }, random.int(1, 2), random.int(1, 3))
  const judge = new Judge(world, machines)
  const around = { world, postgres, broker, judge, runtimeWeather: climate.runtime }
  const cluster = new Cluster(around, climate, machines)

  const outside = new SimProcess('client', new Machine(world, 'client', new Disk()))
  climate.isCalm = true
  await inWorld(world, outside, () => importImage(postgres, outside, cluster.workerIds))
  climate.isCalm = false
  world.inside(null, () => cluster.start())
  const client = world.inside(outside, () => new Client(world, broker, outside))
  world.inside(outside, () => client.begin(random.int(2, 10)))
  postgres.onCommit = () => {
    if (random.chance(0.05)) for (const finding of invariants.placement(postgres)) world.violate(finding)
  }

  const troubleMs = random.between(...TROUBLE_MS)
  strikeAgain(world, cluster, climate)
  await world.run(() => false, troubleMs)
  world.trace.add('calm')
  climate.isCalm = true
  world.inside(null, () => cluster.heal())
  const atRest = await settle(around, cluster, client, troubleMs + ENDS_WITHIN_MS)
  if (!atRest && world.violations.length === 0) {
    for (const what of unfinished(around, cluster, client))
      world.violate(`after ${ENDS_WITHIN_MS} ms: ${what}`)
  }
  if (world.violations.length === 0) {
    const findings = [
      ...invariants.streams(postgres),
      ...invariants.promises(postgres, [client]),
      ...invariants.executions(postgres, judge, [client]),
      ...invariants.order(postgres),
      ...invariants.causes(postgres),
      ...invariants.placement(postgres),
      ...invariants.ledger(postgres),
    ]
    for (const finding of findings) world.violate(finding)
  }
  running = null
  return {
    seed,
    hash: world.trace.hash,
    steps: world.trace.steps,
    virtualMs: world.now,
    commands: client.promised.length,
    events: postgres.history.length,
    violations: world.violations,
  }
}

function envOf(world: World): Env {
  return {
    // The server's own clock is right.
    wallMs: () => world.inside(null, () => world.wallMs()),
    after: (ms, go, owner) => void world.after(ms, go, owner),
    dies() {
      try {
        world.operation()
        return false
      } catch (error) {
        if (error instanceof Killed) return true
        throw error
      }
    },
  }
}

function strikeAgain(world: World, cluster: Cluster, climate: Climate): void {
  const { random } = world
  if (climate.isCalm || climate.sudden.length === 0) return
  const strike = () => {
    if (climate.isCalm) return
    cluster.strike(random.pick(climate.sudden))
    strikeAgain(world, cluster, climate)
  }
  world.after(random.between(0, 2 * climate.everyMs), strike, null)
}

/** Programs go on until they are done; then every sandbox is told to end. */
async function settle(
  around: Surroundings,
  cluster: Cluster,
  client: Client,
  untilMs: number,
): Promise<boolean> {
  const { world, postgres } = around
  client.hurry()
  for (;;) {
    const at = Math.min(world.now + LOOK_MS, untilMs)
    await world.run(() => false, at)
    if (world.violations.length > 0) return false
    const left = unfinished(around, cluster, client)
    if (left.length === 0) return true
    if (world.now >= untilMs) return false
    // Also those of creates that nobody heard of: a command that was given up may still be carried out.
    if (client.isDone) world.inside(client.process, () => client.end(postgres.tables.live.rows.keys()))
  }
}

function unfinished({ postgres, broker }: Surroundings, cluster: Cluster, client: Client): string[] {
  const { tables } = postgres
  const left: string[] = []
  if (!client.isDone) left.push('a program still waits for an answer')
  if (!broker.isEmpty) left.push('commands wait in the queue')
  for (const id of tables.live.rows.keys()) left.push(`${id} has not ended`)
  for (const id of tables.openExecs.rows.keys()) left.push(`${id} has not ended`)
  for (const key of tables.timers.rows.keys()) left.push(`the timer ${key} is still there`)
  if (tables.ledger.rows.size !== postgres.history.length) left.push('events wait for their position')
  for (const { name, machine, sandboxes } of cluster.workers) {
    for (const id of machine.sandboxes.keys()) left.push(`${id} is still on ${name}`)
    if (sandboxes === null) left.push(`${name} is not up`)
    for (const { sandboxId } of sandboxes?.all() ?? [])
      left.push(`${name} still has a record of ${sandboxId}`)
  }
  return left
}

/** The base image, as the snapshotter would have recorded it on every worker. */
async function importImage(
  postgres: Postgres,
  owner: SimProcess,
  replicas: readonly WorkerId[],
): Promise<void> {
  const imageId = makeId('im', Date.now(), Buffer.alloc(10, 1))
  const commands = [
    { type: 'ImportImage' as const, name: 'base:latest', sha256: 'f'.repeat(64), bytes: 1 },
    ...replicas.map((workerId) => ({ type: 'ReportReplicated' as const, workerId })),
    { type: 'CompleteImport' as const },
  ]
  let state = imageAggregate.initial
  const events = commands.flatMap((command) => {
    const decided = decideImage(state, command)
    for (const event of decided)
      state = evolveImage(state, { ...event, data: event.data as JsonObject, version: 0, atMs: 0 })
    return decided
  })
  const command = { id: 'import-base', verb: 'image.import', hash: commandHash('image.import', {}) }
  await append(postgres.pool(owner), {
    tenant: TENANT,
    command: { ...command, expiresAt: new Date(Date.now() + 60_000) },
    outcome: {},
    meta: {
      actor: 'test',
      causationId: null,
      correlationId: null,
      traceparent: null,
      workerId: null,
      epoch: null,
    },
    at: new Date(),
    writes: [{ stream: imageId, expectedVersion: 0, events: record(events) }],
    claims: { take: [{ kind: 'image-name', key: 'base:latest', holder: imageId }] },
  })
}

async function inWorld(world: World, process: SimProcess, work: () => Promise<void>): Promise<void> {
  let isOver = false
  world.inside(process, () => void work().then(() => (isOver = true)))
  await world.run(() => isOver, 1_000)
}

function isOfTheDead(error: unknown): boolean {
  if (error instanceof Killed) return true
  return error instanceof Error && error.cause !== undefined && isOfTheDead(error.cause)
}
