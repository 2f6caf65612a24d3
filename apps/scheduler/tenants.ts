/**
 * Operators' decisions about tenants, and who made and revoked tokens: events of the platform, asked for by the gateway
 * on the platform's own subjects.
 *
 * Whether a tenant is suspended or removed is a claim, taken with its event (docs/adr/0072). What follows (limits in the
 * tenant's row, sandboxes to end, things to remove) is carried out at once and by a timer of the same transaction, again
 * until it is so: a crash between loses none of it.
 */

import { type Command, handleCommand, record } from '#libs/command-handling'
import type { Accepted, CommandBody } from '#libs/contract'
import {
  decideTenant,
  decideToken,
  PLATFORM_TENANT,
  Rejected,
  type SandboxId,
  TENANT_QUOTA_DEFAULT,
  type TenantCommand,
  type TenantEvent,
  type TokenCommand,
  tenantAggregate,
  tokenAggregate,
} from '#libs/domain'
import {
  type Claim,
  countThings,
  derivedCommandId,
  ensureTenant,
  type FiredTimer,
  findTenant,
  listLiveOf,
  load,
  revokeTokensOf,
  setTenantLimits,
  standingClaim,
} from '#libs/event-store'
import type { Scheduler } from './context.js'
import { systemCommand } from './system-command.js'
import { removeThings } from './tenant-things.js'
import { stopSandbox } from './terminate-sandbox.js'

export const TENANT_TIMER = 'tenant-settle'
/** What was let through a moment before a suspension is found by then: gates look twice a second. */
const SETTLE_MS = 2_000

export async function createTenant(
  scheduler: Scheduler,
  command: Command<CommandBody<'tenant.create'>>,
): Promise<Accepted> {
  const { tenant, limits } = command.body
  const create = { type: 'CreateTenant' as const, tenant, limits: { ...TENANT_QUOTA_DEFAULT, ...limits } }
  return decideOnTenant(scheduler, command, create, 'new')
}

export function limitTenant(
  scheduler: Scheduler,
  command: Command<CommandBody<'tenant.limit'>>,
): Promise<Accepted> {
  return decideOnTenant(scheduler, command, { type: 'LimitTenant', ...command.body })
}

export function suspendTenant(
  scheduler: Scheduler,
  command: Command<CommandBody<'tenant.suspend'>>,
): Promise<Accepted> {
  return decideOnTenant(scheduler, command, { type: 'SuspendTenant', ...command.body })
}

export function resumeTenant(
  scheduler: Scheduler,
  command: Command<CommandBody<'tenant.resume'>>,
): Promise<Accepted> {
  return decideOnTenant(scheduler, command, { type: 'ResumeTenant', ...command.body })
}

export async function removeTenant(
  scheduler: Scheduler,
  command: Command<CommandBody<'tenant.remove'>>,
): Promise<Accepted> {
  const has = await countThings(scheduler.db, command.body.tenant)
  return decideOnTenant(scheduler, command, { type: 'RemoveTenant', ...command.body, has })
}

export function createToken(
  scheduler: Scheduler,
  command: Command<CommandBody<'token.create'>>,
): Promise<Accepted> {
  return decideOnToken(scheduler, command, { type: 'CreateToken', ...command.body })
}

export function revokeToken(
  scheduler: Scheduler,
  command: Command<CommandBody<'token.revoke'>>,
): Promise<Accepted> {
  return decideOnToken(scheduler, command, { type: 'RevokeToken', ...command.body })
}

/** The timer's end of it; safe to repeat. */
export async function settleTenant(
  scheduler: Scheduler,
  { payload, commandId }: FiredTimer,
): Promise<'done' | 'again'> {
  const { db } = scheduler
  const tenant = payload.tenant as string
  await applyLimits(scheduler, tenant)
  const { state } = await load(db, tenantAggregate, streamOf(tenant), { tenant: PLATFORM_TENANT })
  if (state.status !== 'removing') return (await endSandboxes(scheduler, tenant)) === 0 ? 'done' : 'again'
  if ((await endSandboxes(scheduler, tenant)) > 0) return 'again'
  if (state.ends) await removeThings(scheduler, tenant)
  const { sandboxes, volumes, images } = await countThings(db, tenant)
  if (sandboxes + volumes + images > 0) return 'again'
  for (const tokenId of await revokeTokensOf(db, tenant)) {
    const revoke = systemCommand(PLATFORM_TENANT, 'token.revoke', `${commandId}:${tokenId}`, {
      tenant,
      tokenId,
    })
    await decideOnToken(scheduler, revoke, { type: 'RevokeToken', tenant, tokenId })
  }
  const done = systemCommand(PLATFORM_TENANT, 'tenant.removed', commandId, { tenant })
  await decideOnTenant(scheduler, done, { type: 'RecordRemoved', tenant })
  return 'done'
}

async function decideOnTenant(
  scheduler: Scheduler,
  command: Command<{ tenant: string }>,
  decision: TenantCommand,
  expects: 'new' | 'known' = 'known',
): Promise<Accepted> {
  const { db } = scheduler
  const { tenant } = command.body
  const { accepted } = await handleCommand(scheduler, command, async () => {
    const stream = streamOf(tenant)
    const [{ state, version }, row] = await Promise.all([
      load(db, tenantAggregate, stream, { tenant: PLATFORM_TENANT }),
      findTenant(db, tenant),
    ])
    if (expects === 'known' && row === null && state.status === 'absent') throw noTenant(tenant)
    // Set-up or an older release made it.
    const known = expects === 'new' && row !== null && state.status === 'absent'
    const events = decideTenant(known ? { ...state, status: 'active' } : state, decision)
    return {
      outcome: {},
      writes: [{ stream, expectedVersion: version, events: record(events) }],
      ...effectsOf(tenant, events[0]),
    }
  })
  // Also for a re-send: the first try may have died before it came here.
  await applyLimits(scheduler, tenant)
  await endSandboxes(scheduler, tenant)
  return accepted
}

async function decideOnToken(
  scheduler: Scheduler,
  command: Command<{ tenant: string; tokenId: string }>,
  decision: TokenCommand,
): Promise<Accepted> {
  const { db } = scheduler
  const { tenant, tokenId } = command.body
  const stream = `token:${tenant}:${tokenId}`
  const { accepted } = await handleCommand(scheduler, command, async () => {
    const [{ state, version }, { state: of }] = await Promise.all([
      load(db, tokenAggregate, stream, { tenant: PLATFORM_TENANT }),
      load(db, tenantAggregate, streamOf(tenant), { tenant: PLATFORM_TENANT }),
    ])
    const isGone = of.status === 'removing' || of.status === 'removed'
    if (decision.type === 'CreateToken' && isGone) throw noTenant(tenant)
    const events = decideToken(state, decision)
    return { outcome: {}, writes: [{ stream, expectedVersion: version, events: record(events) }] }
  })
  return accepted
}

function effectsOf(tenant: string, event: TenantEvent | undefined) {
  const [suspended, removing, removed] = (['suspended', 'removing', 'removed'] as const).map((standing) =>
    standingClaim(standing, tenant),
  ) as [Claim, Claim, Claim]
  const timer = {
    key: `${streamOf(tenant)}:settle`,
    afterMs: SETTLE_MS,
    kind: TENANT_TIMER,
    payload: { tenant },
  }
  const timers = { set: [timer] }
  switch (event?.type) {
    case 'TenantCreated':
    case 'TenantLimitsChanged':
      return { timers }
    case 'TenantSuspended':
      return { claims: { take: [suspended] }, timers }
    case 'TenantResumed':
      return { claims: { release: [suspended] } }
    case 'TenantRemovalRequested':
      return { claims: { take: [suspended, removing] }, timers }
    case 'TenantRemoved':
      return { claims: { take: [removed], release: [removing] } }
    case undefined:
      return {}
  }
}

/** The row says what the stream says: services count by the row. */
async function applyLimits({ db }: Scheduler, tenant: string): Promise<void> {
  const { state } = await load(db, tenantAggregate, streamOf(tenant), { tenant: PLATFORM_TENANT })
  if (state.status === 'absent') return
  await ensureTenant(db, tenant)
  if (Object.keys(state.limits).length > 0) await setTenantLimits(db, tenant, state.limits)
}

/** Asks what is to be ended to stop. Returns how many are left. */
async function endSandboxes(scheduler: Scheduler, tenant: string): Promise<number> {
  const { db } = scheduler
  const { state } = await load(db, tenantAggregate, streamOf(tenant), { tenant: PLATFORM_TENANT })
  if (!state.ends) return 0
  const live = await listLiveOf(db, tenant)
  for (const { sandboxId, epoch, state: liveState } of live) {
    if (liveState === 'closing') continue
    const id = derivedCommandId('tenant', sandboxId, epoch)
    const stop = systemCommand(tenant, 'sandbox.terminate', id, { sandboxId: sandboxId as SandboxId })
    await stopSandbox(scheduler, stop, 'tenant')
  }
  return live.length
}

function streamOf(tenant: string): string {
  return `tenant:${tenant}`
}

function noTenant(tenant: string): Rejected {
  return new Rejected('NOT_FOUND', `no tenant is called ${JSON.stringify(tenant)}`, {
    hint: 'see `sandtrail tenant ls`',
  })
}
