import { expect, test } from '@jest/globals'
import fc from 'fast-check'
import { nextStatus } from '../aggregate.js'
import { fold, outcomeOf } from '../testing.js'
import {
  decideTenant,
  TENANT_TRANSITIONS,
  type TenantCommand,
  type TenantEvent,
  tenantAggregate,
} from './tenant.js'
import {
  decideToken,
  TOKEN_TRANSITIONS,
  type TokenCommand,
  type TokenEvent,
  tokenAggregate,
} from './token.js'

const tenant = 'acme'
const NOTHING = { sandboxes: 0, volumes: 0, images: 0 }
const create: TenantCommand = { type: 'CreateTenant', tenant, limits: { execs: 7 } }
const limit: TenantCommand = { type: 'LimitTenant', tenant, limits: { execs: null } }
const suspend = (sandboxes: 'keep' | 'end'): TenantCommand => ({
  type: 'SuspendTenant',
  tenant,
  reason: null,
  sandboxes,
})
const resume: TenantCommand = { type: 'ResumeTenant', tenant }
const remove = (force: boolean, has = NOTHING): TenantCommand => ({
  type: 'RemoveTenant',
  tenant,
  reason: null,
  force,
  has,
})
const removed: TenantCommand = { type: 'RecordRemoved', tenant }
const busy = { ...NOTHING, sandboxes: 2 }

function after(...done: TenantCommand[]) {
  const events: TenantEvent[] = []
  for (const command of done) events.push(...decideTenant(fold(tenantAggregate, events), command))
  return { types: events.map(({ type }) => type), events, state: fold(tenantAggregate, events) }
}

test('suspending twice happens once, unless what was kept is to be ended now', () => {
  expect(after(create, suspend('keep'), suspend('keep')).types).toHaveLength(2)
  expect(after(create, suspend('keep'), suspend('end'), suspend('keep'), suspend('end')).types).toHaveLength(
    3,
  )
  expect(after(suspend('end'), resume).state).toMatchObject({ status: 'active', ends: false })
})

test('limits add up, also while it is suspended', () => {
  expect(after(create, suspend('keep'), limit).state).toMatchObject({
    status: 'suspended',
    limits: { execs: null },
  })
  expect(after({ ...limit, limits: {} } as TenantCommand).types).toEqual([])
})

test('what has things is not removed without force, and force can be added later', () => {
  expect(outcomeOf(() => after(create, remove(false, busy)).events)).toBe('TENANT_IN_USE')
  expect(after(create, remove(false), remove(false), remove(true, busy), remove(true, busy)).types).toEqual([
    'TenantCreated',
    'TenantRemovalRequested',
    'TenantRemovalRequested',
  ])
})

test('removed is for good, and the name is not given again', () => {
  const gone = [create, remove(true, busy), removed]
  expect(after(...gone, remove(true)).state.status).toBe('removed')
  expect(outcomeOf(() => after(...gone, create).events)).toBe('NAME_TAKEN')
  for (const command of [limit, suspend('keep'), resume]) {
    expect(outcomeOf(() => after(...gone, command).events)).toBe('NOT_FOUND')
    expect(outcomeOf(() => after(create, remove(true), command).events)).toBe('NOT_FOUND')
  }
})

test('every event of a tenant is a step of its table', () => {
  const command = fc.constantFrom(
    create,
    limit,
    suspend('keep'),
    suspend('end'),
    resume,
    remove(false),
    remove(true, busy),
    remove(false, busy),
    removed,
  )
  fc.assert(
    fc.property(fc.array(command, { maxLength: 20 }), (list) => {
      const events: TenantEvent[] = []
      let status: Parameters<typeof nextStatus>[1] = 'absent'
      for (const next of list) {
        const outcome = outcomeOf(() => decideTenant(fold(tenantAggregate, events), next))
        for (const event of typeof outcome === 'string' ? [] : outcome) {
          const to = nextStatus(TENANT_TRANSITIONS, status as 'absent', event.type)
          expect([status, event.type, to]).not.toContain(null)
          status = to!
          events.push(event)
        }
      }
      expect(fold(tenantAggregate, events).status).toBe(status)
    }),
  )
})

test('every event of a token is a step of its table, and none has a secret', () => {
  const of = { tenant, tokenId: 'ak-0123456789abcdef' }
  const made: TokenCommand = { type: 'CreateToken', ...of, name: 'ci', operator: true }
  const command = fc.constantFrom<TokenCommand>(made, { type: 'RevokeToken', ...of })
  fc.assert(
    fc.property(fc.array(command, { maxLength: 8 }), (list) => {
      const events: TokenEvent[] = []
      for (const next of list) {
        const { status } = fold(tokenAggregate, events)
        for (const event of decideToken({ status }, next)) {
          expect(nextStatus(TOKEN_TRANSITIONS, status, event.type)).not.toBeNull()
          expect(['tenant', 'tokenId', 'name', 'operator']).toEqual(
            expect.arrayContaining(Object.keys(event.data)),
          )
          events.push(event)
        }
      }
      expect(events.length).toBeLessThanOrEqual(2)
    }),
  )
})
