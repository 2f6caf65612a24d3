/** Login roles for services and auditors. Only a verifier of the password reaches the server, and so its log. */

import { createHash, createHmac, pbkdf2Sync, randomBytes } from 'node:crypto'
import pg from 'pg'

export interface Login {
  user: string
  password: string
  /** `service`: appends and reads. `auditor`: reads the audit views, nothing else. */
  role: 'service' | 'auditor'
}

/** Creates the login role, or gives an existing one this password. `url`: of a role that may create roles. */
export async function ensureLogin(url: string, { user, password, role }: Login): Promise<void> {
  const client = new pg.Client({ connectionString: url })
  await client.connect()
  try {
    const name = pg.escapeIdentifier(user)
    const verifier = pg.escapeLiteral(scramVerifier(password))
    await client.query(`
      do $$ begin create role ${name} login; exception when duplicate_object or unique_violation then null; end $$;
      alter role ${name} login password ${verifier};
      grant sandtrail_${role} to ${name};
    `)
    // An auditor's mistake must not change anything, not even a temporary table's worth.
    if (role === 'auditor') await client.query(`alter role ${name} set default_transaction_read_only = on`)
  } finally {
    await client.end()
  }
}

const ITERATIONS = 4096 // Postgres' own default, RFC 7677.

/** RFC 5802 by hand, as Postgres stores it; for ASCII passwords, which is what SASLprep leaves as they are. */
function scramVerifier(password: string): string {
  const salt = randomBytes(16)
  const salted = pbkdf2Sync(password, salt, ITERATIONS, 32, 'sha256')
  const clientKey = createHmac('sha256', salted).update('Client Key').digest()
  const storedKey = createHash('sha256').update(clientKey).digest('base64')
  const serverKey = createHmac('sha256', salted).update('Server Key').digest('base64')
  return `SCRAM-SHA-256$${ITERATIONS}:${salt.toString('base64')}$${storedKey}:${serverKey}`
}
