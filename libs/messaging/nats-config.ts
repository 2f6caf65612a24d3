/**
 * The configuration of nats-server. One account is the platform's, with JetStream; each tenant has an account of its
 * own without, which reaches the platform only through imports that put its name into every subject:
 *
 *   tenant's account      platform's account
 *   req.>           -->   v1.<tenant>.req.>          service: the reply comes back
 *   cmd.sandbox.*   -->   v1.<tenant>.cmd.sandbox.*  service: the reply is JetStream's PubAck
 *   evt.>           <--   v1.<tenant>.evt.>          stream
 *   out.>           <--   v1.<tenant>.out.>          stream
 *
 * Subject permissions inside one account do not separate tenants (a reply subject is written with the responder's
 * rights, message ids are shared): docs/adr/0010.
 *
 * A worker signs in with its nkey and may publish on `ctl.<its id>.…` and answer what it was asked, no more.
 */

import { BODY_BYTES_MAX } from './json.js'
import { COMMAND_AGGREGATES, TENANT, WORKER_ID } from './subjects.js'

export interface NatsUser {
  user: string
  /** At least 16 characters; stands in the configuration, whose file must have mode 0600. */
  password: string
}

export interface NatsConfig {
  host: string
  port: number
  storeDir: string
  tenants: { name: string; users: NatsUser[]; limits?: Partial<NatsTenantLimits> }[]
  /** Services: one user each, or one for all. */
  platformUsers: NatsUser[]
  /** `nkeyPublic`: `U…`. */
  workers: { id: string; nkeyPublic: string }[]
  limits?: Partial<NatsLimits>
  /** Paths of PEM files. With `caFile`, clients must show a certificate of it. */
  tls?: { certFile: string; keyFile: string; caFile?: string }
  cluster?: NatsCluster
}

/** One server of a JetStream cluster of three or more; each needs a name of its own. */
export interface NatsCluster {
  serverName: string
  /** Of the cluster, the same on each. */
  name: string
  /** Where this server listens for the others. */
  host: string
  port: number
  /** `nats://host:port` of the others. */
  routes: string[]
  /** What the servers show each other. Without it, whoever reaches the port is taken for a server. */
  routeUser?: NatsUser
}

/** Of one tenant's account. */
export interface NatsTenantLimits {
  connections: number
  subscriptions: number
  payloadBytes: number
}

export interface NatsLimits {
  /** Of JetStream's files in all, bytes. */
  storeBytesMax: number
  connectionsPerTenant: number
  subscriptionsPerTenant: number
}

const LIMITS: NatsLimits = {
  storeBytesMax: 8 * 1024 ** 3,
  connectionsPerTenant: 256,
  subscriptionsPerTenant: 10_000,
}

/** A body of the largest size, and its headers. */
const PAYLOAD_BYTES_MAX = BODY_BYTES_MAX + 64 * 1024

/**
 * A reply that comes later does not reach the tenant any more; the server's own limit is 2 minutes, and a request may
 * wait for an exit for 5.
 */
const REPLY_WITHIN = '6m'

const USER = /^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$/
// No backslash, quote or control character; `$` would name a variable or a bcrypt hash.
const PASSWORD = /^[A-Za-z0-9][A-Za-z0-9_.~+/=:-]{15,255}$/
const NKEY_PUBLIC = /^U[A-Z2-7]{55}$/

/**
 * The file's text, in the JSON that nats-server reads as well as its own form. It holds passwords.
 *
 * @throws Error that names the first bad entry, never a password.
 */
export function renderNatsConfig(config: NatsConfig): string {
  check(config)
  const limits = { ...LIMITS, ...config.limits }
  const rendered = {
    host: config.host,
    port: config.port,
    ...(config.cluster ? { server_name: config.cluster.serverName } : {}),
    max_payload: PAYLOAD_BYTES_MAX,
    ping_interval: '20s',
    ping_max: 2,
    write_deadline: '10s',
    jetstream: { store_dir: config.storeDir, max_file_store: limits.storeBytesMax },
    ...(config.tls ? { tls: tlsOf(config.tls) } : {}),
    ...(config.cluster ? { cluster: clusterOf(config.cluster) } : {}),
    // Named so that it is not made with default rights; nobody can sign in to it.
    system_account: 'SYS',
    accounts: {
      SYS: {},
      PLATFORM: platformAccount(config),
      ...Object.fromEntries(
        config.tenants.map((tenant) => [accountOf(tenant.name), tenantAccount(tenant, limits)]),
      ),
    },
  }
  return `${JSON.stringify(rendered, null, 2)}\n`
}

function platformAccount({ tenants, platformUsers, workers }: NatsConfig): object {
  return {
    jetstream: 'enabled',
    users: [...platformUsers.map(platformUser), ...workers.map(workerUser)],
    exports: tenants.flatMap(({ name }) => {
      const accounts = [accountOf(name)]
      return [
        ...servicesOf(name).map(({ inside }) => ({
          service: inside,
          accounts,
          response_threshold: REPLY_WITHIN,
        })),
        ...streamsOf(name).map((stream) => ({ stream: stream.inside, accounts })),
      ]
    }),
  }
}

function tenantAccount(
  { name, users, limits: own }: NatsConfig['tenants'][number],
  limits: NatsLimits,
): object {
  return {
    limits: {
      max_connections: own?.connections ?? limits.connectionsPerTenant,
      max_subscriptions: own?.subscriptions ?? limits.subscriptionsPerTenant,
      max_payload: Math.min(own?.payloadBytes ?? PAYLOAD_BYTES_MAX, PAYLOAD_BYTES_MAX),
    },
    users: users.map(({ user, password }) => ({
      user,
      password,
      permissions: {
        publish: ['req.>', ...COMMAND_AGGREGATES.map((aggregate) => `cmd.${aggregate}.*`)],
        subscribe: ['evt.>', 'out.>', '_INBOX.>'],
      },
    })),
    imports: [
      ...servicesOf(name).map(({ inside, outside }) => ({
        service: { account: 'PLATFORM', subject: inside },
        to: outside,
      })),
      ...streamsOf(name).map(({ inside, outside }) => ({
        stream: { account: 'PLATFORM', subject: inside },
        to: outside,
      })),
    ],
  }
}

/** Commands are let in by aggregate: one that nobody pulls would lie in the queue for a day. */
function servicesOf(tenant: string): { inside: string; outside: string }[] {
  const outside = ['req.>', ...COMMAND_AGGREGATES.map((aggregate) => `cmd.${aggregate}.*`)]
  return outside.map((subject) => ({ inside: `v1.${tenant}.${subject}`, outside: subject }))
}

function streamsOf(tenant: string): { inside: string; outside: string }[] {
  return ['evt.>', 'out.>'].map((subject) => ({ inside: `v1.${tenant}.${subject}`, outside: subject }))
}

/** A service may not speak as a worker, nor read what is for one, nor read another's replies. */
function platformUser({ user, password }: NatsUser): object {
  return {
    user,
    password,
    permissions: {
      publish: { deny: ['ctl.>', '$SYS.>'] },
      subscribe: {
        allow: ['v1.>', 'ctl.>', 'nudge.>', 'dead.>', `_INBOX.${user}.>`],
      },
    },
  }
}

function workerUser({ id, nkeyPublic }: NatsConfig['workers'][number]): object {
  return {
    nkey: nkeyPublic,
    permissions: {
      publish: { allow: [`ctl.${id}.>`] },
      subscribe: { allow: [`wrk.${id}.>`, `_INBOX.${nkeyPublic}.>`] },
      // One answer to each request that it was sent. A task answers within 20 s.
      allow_responses: { max: 1, expires: '2m' },
    },
  }
}

function accountOf(tenant: string): string {
  return `tenant-${tenant}`
}

function tlsOf({ certFile, keyFile, caFile }: NonNullable<NatsConfig['tls']>): object {
  return {
    cert_file: certFile,
    key_file: keyFile,
    // 2 s by default, which a client on a busy host may need for its handshake.
    timeout: 10,
    ...(caFile ? { ca_file: caFile, verify: true } : {}),
  }
}

function clusterOf({ name, host, port, routes, routeUser }: NatsCluster): object {
  if (!routeUser) return { name, host, port, routes }
  const { user, password } = routeUser
  const withUser = (route: string) => Object.assign(new URL(route), { username: user, password }).href
  return { name, host, port, authorization: { user, password }, routes: routes.map(withUser) }
}

function check({ tenants, platformUsers, workers, cluster }: NatsConfig): void {
  const routeUsers = cluster?.routeUser ? [cluster.routeUser] : []
  const users = [...platformUsers, ...routeUsers, ...tenants.flatMap((tenant) => tenant.users)]
  const seen = new Set<string>()
  for (const { user, password } of users) {
    if (!USER.test(user)) throw new Error(`not a user name: ${JSON.stringify(user)}`)
    // User names are one name space for the whole server, whatever the account.
    if (seen.has(user)) throw new Error(`the user ${user} is there twice`)
    seen.add(user)
    if (!PASSWORD.test(password))
      throw new Error(`the password of ${user} is too short or has a character to avoid`)
  }
  const bad =
    tenants.find(({ name }) => !TENANT.test(name))?.name ??
    workers.find(({ id }) => !WORKER_ID.test(id))?.id ??
    workers.find(({ nkeyPublic }) => !NKEY_PUBLIC.test(nkeyPublic))?.id
  if (bad !== undefined) throw new Error(`not a tenant, worker or public nkey: ${JSON.stringify(bad)}`)
  const names = new Set(tenants.map(({ name }) => name))
  if (names.size !== tenants.length) throw new Error('a tenant is there twice')
}
