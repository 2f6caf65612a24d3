/** Rebuilds from the events' effects what the append's tables must hold, and compares. Memory: what is alive. */

import type { Queryable } from '../database.js'
import type { Claim, Effects, ExecSlotChange, LiveChange, ReservationChange, Resources } from '../types.js'
import type { Findings } from './report.js'

type Rows = Map<string, { stream: string; row: Record<string, unknown> }>

export class Replay {
  private readonly live: Rows = new Map()
  private readonly claims: Rows = new Map()
  private readonly reservations: Rows = new Map()
  private readonly execSlots: Rows = new Map()

  /** In the order of the log, which is that of the locks that the appends took. */
  apply(tenant: string, effects: Effects): void {
    if (effects.live) this.applyLive(tenant, effects.live as unknown as LiveChange)
    const { release = [], take = [] } = (effects.claims ?? {}) as unknown as {
      release?: Claim[]
      take?: Claim[]
    }
    for (const claim of release) this.releaseClaim(tenant, claim)
    for (const claim of take) this.takeClaim(tenant, claim)
    if (effects.reservation)
      this.applyReservation(tenant, effects.reservation as unknown as ReservationChange)
    if (effects.execSlot) this.applyExecSlot(tenant, effects.execSlot as unknown as ExecSlotChange)
  }

  /** Names every row that is missing, superfluous or different, and every counter that is not the sum of its rows. */
  async compare(db: Queryable, findings: Findings): Promise<void> {
    compareRows('live', this.live, await readLive(db), findings)
    compareRows('claims', this.claims, await readClaims(db), findings)
    compareRows('reservations', this.reservations, await readReservations(db), findings)
    compareRows('exec_slots', this.execSlots, await readExecSlots(db), findings)
    await this.compareCounters(db, findings)
  }

  private applyLive(tenant: string, change: LiveChange): void {
    const { sandboxId } = change
    const known = this.live.get(sandboxId)
    if (change.action === 'open') {
      const { workerId, epoch } = change
      this.live.set(sandboxId, { stream: sandboxId, row: { tenant, workerId, epoch, state: 'open' } })
    } else if (change.action === 'closing' && known) {
      this.live.set(sandboxId, { stream: sandboxId, row: { ...known.row, state: 'closing' } })
    } else if (change.action === 'close') {
      this.live.delete(sandboxId)
    }
  }

  private releaseClaim(tenant: string, claim: Claim): void {
    const key = claimKey(tenant, claim)
    if (this.claims.get(key)?.row.holder === claim.holder) this.claims.delete(key)
  }

  private takeClaim(tenant: string, claim: Claim): void {
    const row = { tenant, kind: claim.kind, key: claim.key, holder: claim.holder }
    this.claims.set(claimKey(tenant, claim), { stream: claim.holder, row })
  }

  private applyReservation(tenant: string, change: ReservationChange): void {
    const { sandboxId } = change
    if (change.action === 'release') this.reservations.delete(sandboxId)
    else {
      const { workerId, resources } = change
      this.reservations.set(sandboxId, {
        stream: sandboxId,
        row: { tenant, workerId, ...numbers(resources) },
      })
    }
  }

  private applyExecSlot(tenant: string, { action, execId }: ExecSlotChange): void {
    if (action === 'take') this.execSlots.set(execId, { stream: execId, row: { tenant } })
    else this.execSlots.delete(execId)
  }

  private async compareCounters(db: Queryable, findings: Findings): Promise<void> {
    const sums = { worker: new Map<string, number[]>(), tenant: new Map<string, number[]>() }
    for (const { row } of this.reservations.values()) {
      const amounts = [1, Number(row.cpuMillis), Number(row.memoryBytes), Number(row.diskBytes)]
      add(sums.worker, String(row.workerId), amounts)
      add(sums.tenant, String(row.tenant), amounts)
    }
    const { rows } = await db.query<{ what: 'worker' | 'tenant'; name: string; amounts: string[] }>(COUNTERS)
    for (const { what, name, amounts } of rows) {
      const expected = sums[what].get(name) ?? [0, 0, 0, 0]
      sums[what].delete(name)
      // A worker has no counter of sandboxes.
      const same = amounts.every(
        (amount, i) => (what === 'worker' && i === 0) || Number(amount) === expected[i],
      )
      if (!same)
        findings.add(
          'state-altered',
          {},
          `${what} ${name} counts ${amounts} in use, its reservations are ${expected}`,
        )
    }
    for (const what of ['worker', 'tenant'] as const) {
      for (const name of sums[what].keys())
        findings.add('state-altered', {}, `${what} ${name} has reservations and no row`)
    }
  }
}

const COUNTERS = `
  select 'worker' as what, worker_id as name,
         array[0, reserved_cpu_millis, reserved_memory_bytes, reserved_disk_bytes]::bigint[] as amounts
  from workers
  union all
  select 'tenant', tenant, array[used_sandboxes, used_cpu_millis, used_memory_bytes, used_disk_bytes]::bigint[]
  from tenants
`

function add(sums: Map<string, number[]>, name: string, amounts: number[]): void {
  const sum = sums.get(name) ?? [0, 0, 0, 0]
  sums.set(
    name,
    sum.map((value, i) => value + (amounts[i] as number)),
  )
}

function compareRows(table: string, expected: Rows, found: Rows, findings: Findings): void {
  for (const [key, { stream, row }] of expected) {
    const there = found.get(key)?.row
    if (there === undefined)
      findings.add('state-altered', { stream }, `${table} has lost its row of ${stream}`)
    else if (JSON.stringify(there) !== JSON.stringify(row)) {
      findings.add(
        'state-altered',
        { stream },
        `${table} says ${JSON.stringify(there)} of ${stream}, its events say ${JSON.stringify(row)}`,
      )
    }
  }
  for (const [key, { stream }] of found) {
    if (!expected.has(key))
      findings.add('state-altered', { stream }, `${table} has a row of ${stream} that no event made`)
  }
}

async function readLive(db: Queryable): Promise<Rows> {
  const { rows } = await db.query(`select sandbox_id, tenant, worker_id, epoch, state from live`)
  return new Map(
    rows.map(({ sandbox_id, tenant, worker_id, epoch, state }) => [
      sandbox_id,
      { stream: sandbox_id, row: { tenant, workerId: worker_id, epoch, state } },
    ]),
  )
}

async function readClaims(db: Queryable): Promise<Rows> {
  const { rows } = await db.query(`select tenant, kind, key, holder from claims`)
  return new Map(rows.map((row) => [claimKey(row.tenant, row), { stream: row.holder, row: { ...row } }]))
}

async function readExecSlots(db: Queryable): Promise<Rows> {
  const { rows } = await db.query(`select exec_id, tenant from exec_slots`)
  return new Map(rows.map(({ exec_id, tenant }) => [exec_id, { stream: exec_id, row: { tenant } }]))
}

async function readReservations(db: Queryable): Promise<Rows> {
  const { rows } = await db.query(
    `select sandbox_id, tenant, worker_id, cpu_millis, memory_bytes, disk_bytes from reservations`,
  )
  return new Map(
    rows.map((row) => {
      const resources = {
        cpuMillis: row.cpu_millis,
        memoryBytes: row.memory_bytes,
        diskBytes: row.disk_bytes,
      }
      return [
        row.sandbox_id,
        {
          stream: row.sandbox_id,
          row: { tenant: row.tenant, workerId: row.worker_id, ...numbers(resources) },
        },
      ]
    }),
  )
}

/** In one order of keys, so that rows can be compared as text. */
function numbers({ cpuMillis, memoryBytes, diskBytes }: Resources): Resources {
  return { cpuMillis: Number(cpuMillis), memoryBytes: Number(memoryBytes), diskBytes: Number(diskBytes) }
}

function claimKey(tenant: string, { kind, key }: { kind: string; key: string }): string {
  return JSON.stringify([tenant, kind, key])
}
