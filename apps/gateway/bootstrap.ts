/**
 * Makes a tenant's first token, for set-up: later ones come from `sandtrail token create`.
 *
 *   SANDTRAIL_DATABASE_URL=... node dist/apps/gateway/bootstrap.js TENANT [--operator]     prints the token
 */

import { isReservedTenant } from '#libs/domain'
import { createToken, ensureTenant, openDatabase } from '#libs/event-store'
import { TENANT } from '#libs/messaging'
import { formatToken } from './token.js'

const [tenant, flag] = process.argv.slice(2)
const url = process.env.SANDTRAIL_DATABASE_URL
if (
  tenant === undefined ||
  !TENANT.test(tenant) ||
  isReservedTenant(tenant) ||
  url === undefined ||
  ![undefined, '--operator'].includes(flag)
) {
  process.stderr.write('usage: SANDTRAIL_DATABASE_URL=URL node bootstrap.js TENANT [--operator]\n')
  process.exit(2)
}
const db = openDatabase({ url, max: 1, name: 'bootstrap' })
try {
  await ensureTenant(db, tenant)
  process.stdout.write(
    `${formatToken(await createToken(db, { tenant, name: 'bootstrap', operator: flag === '--operator' }))}\n`,
  )
} finally {
  await db.end()
}
