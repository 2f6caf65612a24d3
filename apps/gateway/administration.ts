/** Tokens as they are made and revoked: the table is what works, an event of the platform says who did it. */

import { randomUUID } from 'node:crypto'
import { PLATFORM_TENANT, Rejected } from '#libs/domain'
import { createToken, findTokenById, newToken, revokeToken, type TokenSecret } from '#libs/event-store'
import { type Origin, sendCommand } from './commands.js'
import type { Gateway } from './gateway.js'

type By = Pick<Origin, 'actor' | 'traceparent'>

/** In the platform's name, with an id of its own: what comes again is done again. */
export function asPlatform(by: By): Origin {
  return { ...by, tenant: PLATFORM_TENANT, commandId: randomUUID() }
}

/** It works only once its event is committed: no token is without one. */
export async function issueToken(
  { db, messaging }: Pick<Gateway, 'db' | 'messaging'>,
  by: By,
  token: { tenant: string; name: string; operator: boolean },
): Promise<TokenSecret> {
  const made = newToken()
  await sendCommand(messaging, asPlatform(by), 'token.create', { ...token, tokenId: made.id })
  return await createToken(db, token, made)
}

/**
 * It works no longer, whatever becomes of its event: whoever hears of a failure asks again, and then that is made up for.
 *
 * @throws Rejected NOT_FOUND
 */
export async function withdrawToken(
  { db, messaging }: Pick<Gateway, 'db' | 'messaging'>,
  by: By,
  { tenant, tokenId, hint }: { tenant: string; tokenId: string; hint: string },
): Promise<void> {
  if (!(await revokeToken(db, tenant, tokenId)) && (await findTokenById(db, tenant, tokenId)) === null) {
    throw new Rejected('NOT_FOUND', 'no token of this tenant has this id', { hint })
  }
  await sendCommand(messaging, asPlatform(by), 'token.revoke', { tenant, tokenId })
}
