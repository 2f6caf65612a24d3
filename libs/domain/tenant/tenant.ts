/**
 * What was decided about a tenant: a stream of the platform, `tenant:<name>`.
 *
 *   absent -> active <-> suspended
 *         \_______\___________\__-> removing -> removed
 *
 * `absent` is also a tenant that set-up made, or a release that did not record it: everything is legal there. A removed
 * one stays removed, and its name is not given again, since its events stay.
 */

import { type Aggregate, type Decided, knownFrom, type PastEvent, type Transition } from '../aggregate.js'
import { Rejected } from '../errors.js'
import type { TenantLimits } from './limits.js'

/** Whether what a suspended tenant runs goes on. */
export type WhatRuns = 'keep' | 'end'

export type TenantEvent =
  | Decided<'TenantCreated', { tenant: string; limits: Partial<TenantLimits> }>
  /** `limits`: those that changed; null is unlimited. */
  | Decided<'TenantLimitsChanged', { tenant: string; limits: Partial<TenantLimits> }>
  | Decided<'TenantSuspended', { tenant: string; reason: string | null; sandboxes: WhatRuns }>
  | Decided<'TenantResumed', { tenant: string }>
  /** `force`: what lives is ended and removed; else nothing lived. */
  | Decided<'TenantRemovalRequested', { tenant: string; reason: string | null; force: boolean }>
  /** Nothing of it lives and no token works; the trail stays. */
  | Decided<'TenantRemoved', { tenant: string }>

export type TenantStatus = 'absent' | 'active' | 'suspended' | 'removing' | 'removed'

export interface TenantState {
  status: TenantStatus
  /** As events have set them: of a tenant that set-up made not all. */
  limits: Partial<TenantLimits>
  /** What it runs is to be ended, and in a removal what it has removed. */
  ends: boolean
}

const LIVING = ['absent', 'active', 'suspended'] as const

export const TENANT_TRANSITIONS: readonly Transition<TenantStatus>[] = [
  { from: 'absent', event: 'TenantCreated', to: 'active' },
  { from: 'absent', event: 'TenantLimitsChanged', to: 'active' },
  { from: 'active', event: 'TenantLimitsChanged', to: 'active' },
  { from: 'suspended', event: 'TenantLimitsChanged', to: 'suspended' },
  // Again, when what was kept at first is to be ended too.
  ...LIVING.map((from) => ({ from, event: 'TenantSuspended', to: 'suspended' as const })),
  { from: 'suspended', event: 'TenantResumed', to: 'active' },
  ...LIVING.map((from) => ({ from, event: 'TenantRemovalRequested', to: 'removing' as const })),
  // Again, with force.
  { from: 'removing', event: 'TenantRemovalRequested', to: 'removing' },
  { from: 'removing', event: 'TenantRemoved', to: 'removed' },
]

/** How many of each a tenant has. */
export interface TenantThings {
  sandboxes: number
  volumes: number
  images: number
}

export type TenantCommand =
  | { type: 'CreateTenant'; tenant: string; limits: Partial<TenantLimits> }
  | { type: 'LimitTenant'; tenant: string; limits: Partial<TenantLimits> }
  | { type: 'SuspendTenant'; tenant: string; reason: string | null; sandboxes: WhatRuns }
  | { type: 'ResumeTenant'; tenant: string }
  | { type: 'RemoveTenant'; tenant: string; reason: string | null; force: boolean; has: TenantThings }
  | { type: 'RecordRemoved'; tenant: string }

/** Returns what happens, `[]` when it is already so. Throws `Rejected` when a rule forbids it. */
export function decideTenant(state: TenantState, command: TenantCommand): TenantEvent[] {
  const { tenant } = command
  switch (command.type) {
    case 'CreateTenant':
      if (state.status !== 'absent') throw taken(tenant, state.status)
      return [{ type: 'TenantCreated', typeVersion: 1, data: { tenant, limits: command.limits } }]
    case 'LimitTenant':
      refuseRemoved(state, tenant)
      if (Object.keys(command.limits).length === 0) return []
      return [{ type: 'TenantLimitsChanged', typeVersion: 1, data: { tenant, limits: command.limits } }]
    case 'SuspendTenant': {
      refuseRemoved(state, tenant)
      const { reason, sandboxes } = command
      if (state.status === 'suspended' && (state.ends || sandboxes === 'keep')) return []
      return [{ type: 'TenantSuspended', typeVersion: 1, data: { tenant, reason, sandboxes } }]
    }
    case 'ResumeTenant':
      refuseRemoved(state, tenant)
      if (state.status !== 'suspended') return []
      return [{ type: 'TenantResumed', typeVersion: 1, data: { tenant } }]
    case 'RemoveTenant': {
      if (state.status === 'removed') return []
      const { reason, force, has } = command
      if (state.status === 'removing' && (state.ends || !force)) return []
      if (!force && Object.values(has).some((count) => count > 0)) throw inUse(tenant, has)
      return [{ type: 'TenantRemovalRequested', typeVersion: 1, data: { tenant, reason, force } }]
    }
    case 'RecordRemoved':
      if (state.status !== 'removing') return []
      return [{ type: 'TenantRemoved', typeVersion: 1, data: { tenant } }]
  }
}

function refuseRemoved({ status }: TenantState, tenant: string): void {
  if (status !== 'removing' && status !== 'removed') return
  throw new Rejected(
    'NOT_FOUND',
    `the tenant ${tenant} is ${status === 'removed' ? 'removed' : 'being removed'}`,
  )
}

function taken(tenant: string, status: TenantStatus): Rejected {
  if (status === 'removed')
    return new Rejected('NAME_TAKEN', `a tenant that is removed was called ${tenant}`, {
      hint: 'choose another name: its events stay, and they are not to be taken for the new one’s',
    })
  return new Rejected('NAME_TAKEN', `the tenant ${tenant} is there already`, {
    hint: '`sandtrail tenant set` changes its limits, `sandtrail tenant token` makes a token for it',
  })
}

function inUse(tenant: string, { sandboxes, volumes, images }: TenantThings): Rejected {
  const has = `${sandboxes} sandboxes alive, ${volumes} volumes and ${images} images`
  return new Rejected('TENANT_IN_USE', `the tenant ${tenant} has ${has}`, {
    hint: 'end and remove them, or have it done with --force; the trail stays either way',
  })
}

export const tenantAggregate: Aggregate<TenantState> = {
  initial: { status: 'absent', limits: {}, ends: false },
  evolve: evolveTenant,
  knows: knownFrom(TENANT_TRANSITIONS),
}

export function evolveTenant(state: TenantState, past: PastEvent): TenantState {
  const event = past as unknown as TenantEvent
  switch (event.type) {
    case 'TenantCreated':
      return { ...state, status: 'active', limits: event.data.limits }
    case 'TenantLimitsChanged': {
      const status = state.status === 'absent' ? 'active' : state.status
      return { ...state, status, limits: { ...state.limits, ...event.data.limits } }
    }
    case 'TenantSuspended':
      return { ...state, status: 'suspended', ends: event.data.sandboxes === 'end' }
    case 'TenantResumed':
      return { ...state, status: 'active', ends: false }
    case 'TenantRemovalRequested':
      return { ...state, status: 'removing', ends: event.data.force }
    case 'TenantRemoved':
      return { ...state, status: 'removed' }
  }
}
