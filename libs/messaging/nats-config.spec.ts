import { expect, test } from '@jest/globals'
import { createWorkerIdentity } from './identity.js'
import { type NatsConfig, renderNatsConfig } from './nats-config.js'

const WORKER = 'wk-01J0000000000000000000000A'
const { publicKey } = createWorkerIdentity()
const password = 'a-password-that-is-long'

const config = (changes: Partial<NatsConfig> = {}): NatsConfig => ({
  host: '127.0.0.1',
  port: 4222,
  storeDir: '/data',
  tenants: [{ name: 'acme', users: [{ user: 'acme-app', password }] }],
  platformUsers: [{ user: 'platform', password }],
  workers: [{ id: WORKER, nkeyPublic: publicKey }],
  ...changes,
})

test('only the platform has JetStream, and each tenant imports what bears its own name', () => {
  const { accounts } = JSON.parse(renderNatsConfig(config()))
  expect(
    Object.entries(accounts).filter(([, account]) => Object.hasOwn(account as object, 'jetstream')),
  ).toHaveLength(1)
  const subjects = accounts['tenant-acme'].imports.map((entry: Record<string, { subject: string }>) => {
    return (entry.service ?? entry.stream)!.subject
  })
  expect(subjects.every((subject: string) => subject.startsWith('v1.acme.'))).toBe(true)
  const exported = accounts.PLATFORM.exports as { accounts: string[] }[]
  expect(exported.every((entry) => entry.accounts.length === 1)).toBe(true)
})

test('a tenant’s request may be answered after the five minutes that it may wait', () => {
  const { accounts } = JSON.parse(renderNatsConfig(config()))
  const services = accounts.PLATFORM.exports.filter((entry: object) => 'service' in entry)
  const thresholds = services.map((entry: { response_threshold: string }) => entry.response_threshold)
  expect(new Set(thresholds)).toEqual(new Set(['6m']))
})

test('an account has the limits of its tenant, and no larger messages than the server', () => {
  const limits = { connections: 2, subscriptions: 5, payloadBytes: 2 ** 30 }
  const tenants = [
    { name: 'small', users: [], limits },
    { name: 'other', users: [] },
  ]
  const { accounts, max_payload } = JSON.parse(renderNatsConfig(config({ tenants })))
  expect(accounts['tenant-small'].limits).toEqual({
    max_connections: 2,
    max_subscriptions: 5,
    max_payload,
  })
  expect(accounts['tenant-other'].limits).toMatchObject({ max_connections: 256, max_subscriptions: 10_000 })
})

test('servers of a cluster show each other a login', () => {
  const cluster = { serverName: 'n1', name: 'c', host: '0.0.0.0', port: 6222, routes: ['nats://n2:6222'] }
  const routeUser = { user: 'route', password }
  const rendered = JSON.parse(renderNatsConfig(config({ cluster: { ...cluster, routeUser } })))
  expect(rendered.cluster).toMatchObject({
    authorization: { user: 'route', password },
    routes: [`nats://route:${password}@n2:6222`],
  })
})

for (const [what, changes] of Object.entries({
  'a tenant that is a wildcard': { tenants: [{ name: '*', users: [] }] },
  'a tenant that is there twice': { tenants: ['acme', 'acme'].map((name) => ({ name, users: [] })) },
  'a worker with another’s kind of id': {
    workers: [{ id: 'sb-01J0000000000000000000000A', nkeyPublic: publicKey }],
  },
  'a key that is none': { workers: [{ id: WORKER, nkeyPublic: 'UABC' }] },
  'a user name with a dot': { platformUsers: [{ user: 'a.b', password }] },
  'a user that is there twice': { platformUsers: [{ user: 'acme-app', password }] },
  'a short password': { platformUsers: [{ user: 'platform', password: 'hunter2' }] },
  'a password that would be read as a variable': {
    platformUsers: [{ user: 'platform', password: `$${password}` }],
  },
  'a password that would end the string': { platformUsers: [{ user: 'platform', password: `${password}"` }] },
})) {
  test(`${what} is refused, and no password is told`, () => {
    let message = ''
    try {
      renderNatsConfig(config(changes))
    } catch (error) {
      message = String(error)
    }
    expect(message).not.toBe('')
    expect(message).not.toMatch(/hunter2|a-password/)
  })
}
