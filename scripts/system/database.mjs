/** The system's database: on our own server, or one named after the system on the server of SANDTRAIL_PG_URL. */
import { query, startPostgres, withDatabase } from './postgres.mjs'
import { systemId } from './state.mjs'

const EXTERNAL = process.env.SANDTRAIL_PG_URL

/**
 * Brings server, database, schema and logins. The URLs that it gives hold passwords.
 *
 * @param {string} dir
 * @param {{ log: string, service: import('./keys.mjs').Login, auditor: import('./keys.mjs').Login, serverUrl?: string | undefined,
 *   certificates: import('./certificates.mjs').Certificates | null }} options
 *   `serverUrl`: of a superuser of a server that is this system's alone and that somebody else starts
 * @returns {Promise<{ adminUrl: string, serviceUrl: string, auditorUrl: string, ownServer: boolean }>}
 */
export async function openDatabase(dir, { log, service, auditor, certificates, serverUrl }) {
  const server = serverUrl ?? EXTERNAL ?? (await startPostgres(dir, { log, certificates }))
  const name = databaseName(dir)
  const existing = await query(server, 'select from pg_database where datname = $1', [name])
  if (existing.length === 0) await query(server, `create database ${name}`)
  const adminUrl = withDatabase(server, name)

  // Roles belong to the whole server, which other systems may share: so they carry the system's id.
  const own = (/** @type {import('./keys.mjs').Login} */ login) => ({
    ...login,
    user: `${login.user}_${systemId(dir)}`,
  })
  const logins = { service: own(service), auditor: own(auditor) }
  await prepareSchema(adminUrl, logins)
  return {
    adminUrl,
    serviceUrl: withLogin(adminUrl, logins.service),
    auditorUrl: withLogin(adminUrl, logins.auditor),
    ownServer: serverUrl !== undefined || EXTERNAL === undefined,
  }
}

/**
 * The schema of this release, and who may use it.
 *
 * @param {string} adminUrl of the database's owner or a superuser
 * @param {{ service: import('./keys.mjs').Login, auditor: import('./keys.mjs').Login }} logins
 */
export async function prepareSchema(adminUrl, { service, auditor }) {
  const { ensureLogin, migrate } = await import('#migrations')
  await migrate(adminUrl)
  await ensureLogin(adminUrl, { ...service, role: 'service' })
  await ensureLogin(adminUrl, { ...auditor, role: 'auditor' })
}

/** On a server of others, takes away what `openDatabase` made there. @param {string} dir */
export async function dropDatabase(dir) {
  if (EXTERNAL === undefined) return
  await query(EXTERNAL, `drop database if exists ${databaseName(dir)} with (force)`)
  for (const user of ['sandtrail_services', 'sandtrail_audit']) {
    await query(EXTERNAL, `drop role if exists ${user}_${systemId(dir)}`)
  }
}

const databaseName = (/** @type {string} */ dir) =>
  EXTERNAL === undefined ? 'sandtrail' : `sandtrail_${systemId(dir)}`

/** @param {string} url @param {import('./keys.mjs').Login} login */
export function withLogin(url, { user, password }) {
  const other = new URL(url)
  other.username = user
  other.password = password
  return other.href
}
