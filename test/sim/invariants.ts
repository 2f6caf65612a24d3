/** What must be true after a run, whatever went wrong in it. Each function returns what is not. */

import {
  EXEC_TERMINAL_EVENTS,
  EXEC_TRANSITIONS,
  nextStatus,
  SANDBOX_TERMINAL_EVENTS,
  SANDBOX_TRANSITIONS,
  type Transition,
} from '#libs/domain'
import { type Envelope, hashEvent } from '#libs/event-store'
import type { Client, Outcome } from './client.js'
import type { Judge } from './judge.js'
import type { Postgres } from './postgres/server.js'
import type { Row } from './postgres/tables.js'

type Findings = string[]
const isTerminal = (types: readonly string[]) => (event: Row) => types.includes(String(event.type))
const isSandboxEnd = isTerminal(SANDBOX_TERMINAL_EVENTS)
const isExecEnd = isTerminal(EXEC_TERMINAL_EVENTS)

/** Versions 1..n, each hash over its event and the hash before, only legal steps of the lifecycle. */
export function streams({ byStream }: Postgres): Findings {
  const found: Findings = []
  for (const [stream, events] of byStream) {
    let prevHash = Buffer.alloc(32)
    for (const [i, event] of events.entries()) {
      if (event.version !== i + 1) found.push(`${stream} has version ${event.version} in place of ${i + 1}`)
      const hash = hashEvent({ ...toEnvelope(event), prevHash })
      if (!hash.equals(event.hash as Buffer)) found.push(`${stream} ${event.version} does not fit its chain`)
      prevHash = event.hash as Buffer<ArrayBuffer>
    }
    if (stream.startsWith('sb-')) found.push(...lifecycle(stream, events, SANDBOX_TRANSITIONS))
    if (stream.startsWith('ex-')) found.push(...lifecycle(stream, events, EXEC_TRANSITIONS))
  }
  return found
}

function toEnvelope(event: Row): Envelope {
  const { type_version, event_id, prev_hash, at, ...rest } = event
  return {
    ...rest,
    typeVersion: type_version,
    eventId: event_id,
    prevHash: prev_hash,
    at: new Date(Number(at)),
  } as unknown as Envelope
}

function lifecycle<S extends string>(
  stream: string,
  events: readonly Row[],
  table: readonly Transition<S | 'absent'>[],
): Findings {
  let status: S | 'absent' = 'absent'
  for (const { type, version } of events) {
    const next: S | 'absent' | null = nextStatus(table, status, String(type))
    if (next === null) return [`${stream} ${version}: ${type} is not legal in ${status}`]
    status = next
  }
  return status === 'ended' ? [] : [`${stream} never ended: it is ${status}`]
}

/** Every accepted command is in the log as it was promised, and has its one end. */
export function promises({ byStream, tables }: Postgres, clients: readonly Client[]): Findings {
  const found: Findings = []
  for (const { id, verb, outcome } of clients.flatMap(({ promised }) => promised)) {
    if (outcome === null) continue
    const stored = tables.commands.rows.get(JSON.stringify(['acme', id]))
    if (!stored) found.push(`${verb} ${id} was decided, and is not stored`)
    else if (stored.rejected !== 'error' in outcome) found.push(`${verb} ${id} was stored as the contrary`)
    if (!('ok' in outcome)) continue
    const { stream, version, sandboxId } = outcome as Outcome
    if ((byStream.get(stream)?.length ?? 0) < version)
      found.push(`${verb} ${id}: ${stream} ${version} is lost`)
    if (verb === 'exec') found.push(...one(stream, byStream.get(stream), isExecEnd))
    if (verb === 'create' || verb === 'terminate')
      found.push(...one(sandboxId, byStream.get(sandboxId), isSandboxEnd))
  }
  return found
}

function one(stream: string, events: readonly Row[] | undefined, isEnd: (event: Row) => boolean): Findings {
  const ends = (events ?? []).filter(isEnd).map(({ type }) => type)
  return ends.length === 1 ? [] : [`${stream} has ${ends.length} ends: ${ends.join(', ')}`]
}

/** No program ran twice, none ran whose exec is said never to have run, and what is told of it is true. */
export function executions({ byStream }: Postgres, { starts }: Judge, clients: readonly Client[]): Findings {
  const found: Findings = []
  for (const [exec, times] of starts) if (times > 1) found.push(`${exec} was started ${times} times`)
  const programs = new Map(clients.flatMap((client) => [...client.programs]))
  for (const [stream, events] of byStream) {
    if (!stream.startsWith('ex-')) continue
    const { spec } = events[0]!.data as { spec: { argv: string[] } }
    const argv = programs.get(stream) ?? spec.argv
    const end = events.find(isExecEnd)
    if (end) found.push(...execution(stream, end, starts.get(stream) ?? 0, argv))
  }
  return found
}

function execution(stream: string, { type, data }: Row, started: number, argv: readonly string[]): Findings {
  const told = data as {
    exitCode?: number
    signal?: number | null
    mayHaveRun?: boolean
    stdout?: { bytes: number }
  }
  const ran = started > 0
  switch (type) {
    case 'ExecExited':
      if (!ran) return [`${stream} exited, and never ran`]
      if (told.signal === null && told.exitCode !== Number(argv[2]))
        return [`${stream} has the wrong exit code`]
      return told.stdout?.bytes === Number(argv[3]) ? [] : [`${stream} lost output`]
    case 'ExecFailed':
      return ran ? [`${stream} is told to have failed to start, and ran`] : []
    default:
      return ran && told.mayHaveRun === false ? [`${stream} is told never to have run, and ran`] : []
  }
}

/** Nothing is accepted for a sandbox after its stop was asked for, and nothing of it is told after its end. */
export function order({ history }: Postgres): Findings {
  const found: Findings = []
  const closing = new Set<unknown>()
  const told = new Map<unknown, unknown>()
  for (const event of history) {
    const { type, stream, data } = event
    if (type === 'SandboxStopRequested' || isSandboxEnd(event)) closing.add(stream)
    if (type === 'SandboxPlaced') told.set(stream, (data as { epoch: number }).epoch)
    if (type === 'ExecRequested') {
      const { sandboxId } = (data as { spec: { sandboxId: string } }).spec
      if (closing.has(sandboxId)) found.push(`${stream} was accepted after ${sandboxId} had begun to end`)
    }
    const { epoch } = event.meta as { epoch: number | null }
    if (String(stream).startsWith('sb-') && epoch !== null && epoch !== told.get(stream)) {
      found.push(`${stream}: ${type} was told by epoch ${epoch}`)
    }
  }
  return found
}

/** Nothing is ended by a stop that nobody asked for. */
export function causes({ byStream }: Postgres): Findings {
  return [...byStream]
    .filter(([, events]) => events.some(({ type }) => type === 'SandboxTerminated'))
    .filter(([, events]) => !events.some(({ type }) => type === 'SandboxStopRequested'))
    .map(([stream]) => `${stream} was terminated, and nobody had asked for it`)
}

/** What is reserved, live and named is what has not ended: true after every commit, not only at the end. */
export function placement(postgres: Postgres): Findings {
  const { tables, byStream } = postgres
  const found: Findings = []
  const open = new Set<string>()
  const openExecs = new Set<string>()
  for (const [stream, events] of byStream) {
    if (stream.startsWith('sb-') && !events.some(isSandboxEnd)) open.add(stream)
    if (stream.startsWith('ex-') && !events.some(isExecEnd)) openExecs.add(stream)
  }
  const same = (what: string, keys: Iterable<string>, expected = open) => {
    const there = new Set(keys)
    for (const key of there) if (!expected.has(key)) found.push(`${what} has ${key}, which has ended`)
    for (const key of expected) if (!there.has(key)) found.push(`${what} lacks ${key}, which has not ended`)
  }
  same('live', tables.live.rows.keys())
  same('reservations', tables.reservations.rows.keys())
  same('exec slots', tables.execSlots.rows.keys(), openExecs)
  for (const { kind, key, holder } of tables.claims.rows.values()) {
    if (kind === 'sandbox-name' && !open.has(String(holder)))
      found.push(`the name ${key} is held by ${holder}`)
  }
  for (const [id, worker] of tables.workers.rows) {
    const sum = total(tables.reservations.rows.values(), ({ worker_id }) => worker_id === id)
    if (Number(worker.reserved_memory_bytes) !== sum) {
      found.push(`${id} counts ${worker.reserved_memory_bytes} bytes as reserved, not ${sum}`)
    }
    if (sum > Number(worker.capacity_memory_bytes)) found.push(`${id} has more reserved than it has`)
  }
  for (const [id, tenant] of tables.tenants.rows) {
    const sum = total(tables.reservations.rows.values(), ({ tenant }) => tenant === id)
    if (Number(tenant.used_memory_bytes) !== sum)
      found.push(`${id} counts ${tenant.used_memory_bytes}, not ${sum}`)
  }
  return found
}

function total(rows: Iterable<Row>, isMeant: (row: Row) => boolean): number {
  let sum = 0
  for (const row of rows) if (isMeant(row)) sum += Number(row.memory_bytes)
  return sum
}

/** Gapless positions, every event once, versions of a stream in their order. */
export function ledger({ tables, history }: Postgres): Findings {
  const found: Findings = []
  const entries = [...tables.ledger.rows.values()]
  const versions = new Map<unknown, number>()
  for (const [i, { position, stream, version }] of entries.entries()) {
    if (Number(position) !== i + 1) found.push(`position ${position} in place of ${i + 1}`)
    if (version !== (versions.get(stream) ?? 0) + 1) found.push(`${stream} ${version} is out of order`)
    versions.set(stream, Number(version))
  }
  if (entries.length !== history.length) found.push(`${history.length} events, ${entries.length} positions`)
  return found
}
