/** What is done to a running system, and how it is brought back as a supervisor would. Each resolves when all runs again. */

import { readFileSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { ACTIONS, type Action, FAILPOINTS, type Failpoint } from '#libs/failpoint'
import type { System } from '../../scripts/system/system.mjs'

export interface CrashPoint {
  service: string
  name: Failpoint
  action: Action
}

const SERVICES = {
  scheduler: 'scheduler-1',
  'runtime-worker': 'worker-1',
  snapshotter: 'snapshotter',
  'volume-syncer': 'volume-syncer',
} as const

/** Every place x every action. */
export function crashPoints(): CrashPoint[] {
  return (Object.keys(SERVICES) as (keyof typeof SERVICES)[]).flatMap((app) =>
    FAILPOINTS[app]
      // Commands are queued for the scheduler alone here; the loss of a worker is what `stopBeyondLease` brings about.
      .filter((name) => name !== 'worker-lost')
      .flatMap((name) => ACTIONS.map((action) => ({ service: SERVICES[app], name, action }))),
  )
}

export interface Timing {
  /** How long a stopped process stands still; beyond the lease its sandboxes are lost and it comes back as a zombie. */
  stoppedMs: number
  /** How long a process hangs before its supervisor ends it. */
  hungMs: number
  /** How long a failpoint may take to be reached under the load. */
  reachedMs: number
}

/** False: the service did not come by that place in the time. */
export async function breakAt(
  system: System,
  { service, name, action }: CrashPoint,
  timing: Timing,
): Promise<boolean> {
  const log = join(system.dir, 'logs', `${service}.log`)
  const before = readFileSync(log, 'utf8').length
  await system.kill(service)
  await system.start(service, { failpoint: `${name}:1:${action}` })
  const hit = `{"failpoint":"${name}","action":"${action}"}`
  const reached = await until(() => readFileSync(log, 'utf8').slice(before).includes(hit), timing.reachedMs)
  if (!reached) {
    await system.kill(service)
  } else if (action === 'stop') {
    await delay(timing.stoppedMs)
    await system.kill(service, 'SIGCONT')
    return true
  } else if (action === 'hang') {
    await delay(timing.hungMs)
    await system.kill(service)
  } else if (action === 'throw') {
    return true
  } else {
    await until(() => !system.services().some((each) => each.name === service), 10_000)
  }
  await system.start(service)
  return reached
}

export type Calamity = (system: System, timing: Timing) => Promise<void>

/** The order of a start: whoever needs Postgres and the broker waits for them, but not for ever. */
const SERVERS = ['postgres', 'nats']
const startOrder = (names: readonly string[]) => [
  ...SERVERS.filter((name) => names.includes(name)),
  ...names.filter((name) => !SERVERS.includes(name)),
]

/** `between`: while all of them are dead. They are started in the order that they need. */
export async function killAndStart(
  system: System,
  names: readonly string[],
  between: () => Promise<void> | void = () => {},
) {
  await Promise.all(names.map((name) => system.kill(name)))
  await between()
  for (const name of startOrder(names)) await system.start(name)
}

/** What happens at moments of its own choosing, not at named places. */
export const CALAMITIES: Readonly<Record<string, Calamity>> = {
  ...Object.fromEntries(
    ['scheduler-1', 'worker-1', 'snapshotter', 'volume-syncer', 'gateway', ...SERVERS].map((name) => [
      `kill -9 of ${name}`,
      (system: System) => killAndStart(system, [name]),
    ]),
  ),
  'kill -9 of every service': (system) =>
    killAndStart(
      system,
      system
        .services()
        .map(({ name }) => name)
        .filter((name) => !SERVERS.includes(name)),
    ),
  'kill -9 of everything': (system) =>
    killAndStart(
      system,
      system.services().map(({ name }) => name),
    ),
  "loss of the broker's store": (system) =>
    killAndStart(system, ['nats'], () =>
      rmSync(join(system.dir, 'nats', 'store'), { recursive: true, force: true }),
    ),
  'a worker stopped beyond its lease': (system, { stoppedMs }) => pause(system, 'worker-1', stoppedMs),
  'a scheduler stopped beyond the lease of its workers': (system, { stoppedMs }) =>
    pause(system, 'scheduler-1', stoppedMs),
}

async function pause(system: System, name: string, ms: number): Promise<void> {
  await system.kill(name, 'SIGSTOP')
  await delay(ms)
  await system.kill(name, 'SIGCONT')
}

async function until(condition: () => boolean, limitMs: number): Promise<boolean> {
  const giveUpAt = performance.now() + limitMs
  while (!condition()) {
    if (performance.now() > giveUpAt) return false
    await delay(50)
  }
  return true
}
