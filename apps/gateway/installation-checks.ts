/**
 * What an operator should know of an installation that answers: each check is a misconfiguration that was met, or a
 * state that wants a hand. It says what is wrong and why that matters; its hint, what to do.
 */

import { randomBytes } from 'node:crypto'
import { constants } from 'node:fs'
import { access, statfs } from 'node:fs/promises'
import type { IncomingMessage } from 'node:http'
import { DATA_PLANE, MAIN_EXEC } from '#libs/contract'
import { makeId, Rejected, SandtrailError } from '#libs/domain'
import { assertDurable, listWorkers, readLedgerLag, type Worker } from '#libs/event-store'
import { readBacklog } from '#libs/messaging'
import { httpGet } from '#libs/service'
import { isLoopback } from '#libs/tls'
import { ofEncryption } from './encryption-checks.js'
import type { Gateway } from './gateway.js'
import type { InstallationCheck } from './installation-check.js'

/** A command's expiry is refused beyond a minute of skew; well before that something is wrong with a clock. */
const SKEW_MS_MAX = 10_000
/** A busy second or two; the sequencer places more than this in one. */
const LAG_EVENTS_MAX = 10_000
const PENDING_MAX = 1_000
/** The leader writes its heartbeat every second, and another takes over after 3 s. */
const LEADERLESS_MS = 10_000
/** Five heartbeats: from then on a worker gets nothing new. */
const UNHEARD_MS = 10_000
/** Source: the scheduler's watermark, below which a pool takes no new sandbox. */
const POOL_BYTES_MIN = 1024 ** 3
const BLOBS_BYTES_MIN = 2 * 1024 ** 3
const FETCH_MS = 2_000
/** Source: docs/setup.md; 2.10 would drop options of the streams, and older 2.12 have bugs in work queues. */
const BROKER_MIN = [2, 12] as const
/** What the migrations need. */
const DATABASE_MIN = 15

export async function installationChecks(gateway: Gateway): Promise<InstallationCheck[]> {
  const workers = await listWorkers(gateway.db).catch(() => [])
  return [
    ...ofDatabase(gateway),
    ...ofBroker(gateway),
    ...ofGateway(gateway),
    ...ofEncryption(gateway),
    ...workers.map((worker) => ofWorker(gateway, worker)),
  ]
}

function ofDatabase({ db }: Gateway): InstallationCheck[] {
  return [
    {
      name: 'durability',
      hint: 'in postgresql.conf: fsync, full_page_writes and synchronous_commit on; `pg_checksums --enable` while it is stopped',
      async probe() {
        await assertDurable(db)
        const { rows } = await db.query<{ setting: string }>(
          "select setting from pg_settings where name = 'data_checksums'",
        )
        if (rows[0]?.setting !== 'on') {
          throw new Error('data_checksums is off: a rotten page is found by `verify` only, and later')
        }
        return 'Postgres keeps what it has committed, and notices a rotten page'
      },
    },
    {
      name: 'database version',
      hint: `upgrade to Postgres ${DATABASE_MIN} or newer`,
      async probe() {
        const { rows } = await db.query<{ number: number; name: string }>(
          "select current_setting('server_version_num')::int as number, current_setting('server_version') as name",
        )
        const { number, name } = rows[0]!
        if (number < DATABASE_MIN * 10_000) throw new Error(`Postgres ${name} lacks what the schema needs`)
        return name
      },
    },
    {
      name: 'clocks',
      hint: 'run an NTP client on every host',
      async probe() {
        const askedAt = Date.now()
        const { rows } = await db.query<{ now: Date }>('select clock_timestamp() as now')
        const skewMs = Math.round(rows[0]!.now.getTime() - (askedAt + Date.now()) / 2)
        if (Math.abs(skewMs) > SKEW_MS_MAX) {
          throw new Error(
            `the database's clock is ${skewMs} ms off the gateway's: commands expire too early or late`,
          )
        }
        return `database and gateway are ${Math.abs(skewMs)} ms apart`
      },
    },
    {
      name: 'sequencer',
      hint: "see the schedulers' logs: the leader needs to write its trail file, and the key of its checkpoints",
      async probe() {
        const { leaderHeartbeatAgeMs: age, unplacedEvents, unpublishedEvents } = await readLedgerLag(db)
        if (age === null || age > LEADERLESS_MS) {
          throw new Error('no scheduler leads: events are committed, but get no position and reach no reader')
        }
        if (unplacedEvents > LAG_EVENTS_MAX) throw new Error(`${unplacedEvents} events wait for a position`)
        if (unpublishedEvents > LAG_EVENTS_MAX) {
          throw new Error(`${unpublishedEvents} events are not on the broker yet: its readers are behind`)
        }
        return `leads, ${unplacedEvents} events wait for a position and ${unpublishedEvents} for the broker`
      },
    },
  ]
}

function ofBroker({ messaging }: Gateway): InstallationCheck[] {
  return [
    {
      name: 'broker version',
      hint: `use nats-server ${BROKER_MIN.join('.')} or newer`,
      async probe() {
        const version = messaging.connection.info?.version ?? '0.0'
        const [major = 0, minor = 0] = version.split('.').map(Number)
        const isOld = major < BROKER_MIN[0] || (major === BROKER_MIN[0] && minor < BROKER_MIN[1])
        if (isOld) throw new Error(`nats-server ${version} is older than what the streams were tried with`)
        return version
      },
    },
    {
      name: 'queues',
      hint: 'start more of that service, or see in its log what it fails at',
      async probe() {
        const { consumers } = await readBacklog(messaging)
        const full = consumers.filter(({ pending }) => pending > PENDING_MAX)
        const told = (list: typeof consumers) =>
          list.map(({ durable, pending }) => `${pending} for ${durable}`).join(', ')
        if (full.length > 0) throw new Error(`queued commands wait: ${told(full)}`)
        return `queued: ${told(consumers) || 'no service takes queued commands yet'}`
      },
    },
    {
      name: 'dead letters',
      hint: '`sandtrail dead-letter ls` tells why; then `redrive` or `rm`',
      async probe() {
        const { deadLetters } = await readBacklog(messaging)
        if (deadLetters > 0)
          throw new Error(`${deadLetters} commands could not be handled, and go within a day`)
        return 'none'
      },
    },
  ]
}

function ofGateway({ publicUrl, ca, blobs, trail }: Gateway): InstallationCheck[] {
  return [
    {
      name: 'public URL',
      hint: 'set SANDTRAIL_PUBLIC_URL of gateway and snapshotter to what workers reach the gateway by',
      async probe() {
        const url = new URL('/livez', publicUrl).href
        const answer = await httpGet(url, { ca, timeoutMs: FETCH_MS }).catch((cause: Error) => {
          const why = cause instanceof SandtrailError ? `: ${cause.message}` : ''
          throw new Error(`${publicUrl} cannot be reached from here, and workers fetch images there${why}`, {
            cause,
          })
        })
        const body = await readJson(answer).catch(() => null)
        if (body?.ok !== true) throw new Error(`at ${publicUrl} answers something else than a gateway`)
        const { protocol, hostname } = new URL(publicUrl)
        if (protocol === 'http:' && !isLoopback(hostname)) {
          throw new Error(`${publicUrl} is plaintext: who listens in can fetch images as the workers do`)
        }
        return publicUrl
      },
    },
    {
      name: 'blob directory',
      hint: 'free some space (`sandtrail prune --dry-run`), or give SANDTRAIL_BLOB_DIR to the user of the gateway',
      async probe() {
        await access(blobs.dir, constants.W_OK | constants.X_OK).catch(() => {
          throw new Error(`${blobs.dir} is not writable: no image can be uploaded`)
        })
        const { bavail, bsize } = await statfs(blobs.dir)
        const free = bavail * bsize
        if (free < BLOBS_BYTES_MIN) throw new Error(`${blobs.dir} has ${mib(free)} left: uploads will fail`)
        return `${mib(free)} free`
      },
    },
    {
      name: 'trail copy',
      hint: 'set SANDTRAIL_TRAIL_COPY and SANDTRAIL_TRAIL_PUBLIC_KEY_FILE to files that the gateway may read',
      async probe() {
        if (trail === null) return 'none: verify offline (docs/cli.md)'
        await access(trail.file, constants.R_OK).catch(() => {
          throw new Error(`${trail.file} cannot be read: \`sandtrail verify\` through this gateway will fail`)
        })
        return trail.file
      },
    },
  ]
}

async function readJson(answer: IncomingMessage): Promise<{ ok?: boolean }> {
  const chunks: Buffer[] = []
  for await (const chunk of answer) chunks.push(chunk as Buffer)
  return JSON.parse(Buffer.concat(chunks).toString('utf8')) as { ok?: boolean }
}

function ofWorker({ dataPlane }: Gateway, worker: Worker): InstallationCheck {
  const { workerId, state, heartbeatAgeMs, poolFreeBytes, info, cordoned } = worker
  const host = typeof info.hostname === 'string' ? info.hostname : 'unknown host'
  return {
    name: workerId,
    hint: `see the log of the runtime-worker on ${host}, and SANDTRAIL_DATA_PLANE_HOST there`,
    async probe() {
      const age = `${Math.round(heartbeatAgeMs / 1000)} s`
      if (state === 'lost') throw new Error(`lost: not heard for ${age}, its sandboxes are recorded as lost`)
      if (heartbeatAgeMs > UNHEARD_MS) throw new Error(`not heard for ${age}: it gets no new sandbox`)
      if (poolFreeBytes < POOL_BYTES_MIN) {
        throw new Error(`its pool has ${mib(poolFreeBytes)} left: below 1 GiB it gets no new sandbox`)
      }
      await reach(dataPlane, workerId, String(info.dataPlaneUrl))
      return `on ${host}${cordoned ? ', cordoned' : ''}, its pool has ${mib(poolFreeBytes)} free`
    },
  }
}

/** Asks for what cannot be there: any answer of the worker's own will do. */
async function reach(dataPlane: Gateway['dataPlane'], workerId: string, url: string): Promise<void> {
  const sandboxId = makeId('sb', 0, randomBytes(10))
  const path = DATA_PLANE.output(sandboxId, MAIN_EXEC, 'stdout')
  try {
    const answer = await dataPlane.send({ workerId, sandboxId, method: 'GET', path })
    answer.destroy()
  } catch (error) {
    if (error instanceof Rejected && error.code !== 'UNAUTHENTICATED') return
    const what = error instanceof Rejected ? 'refuses our token' : 'cannot be reached from the gateway'
    throw new Error(`its data plane at ${url} ${what}: no output, no stdin`)
  }
}

function mib(bytes: number): string {
  return `${Math.floor(bytes / 1024 ** 2)} MiB`
}
