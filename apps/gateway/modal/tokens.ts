/**
 * What the SDKs are given to show again: a token of the client, which they renew and send beside their id and secret
 * (those alone count here), and the command router's, which is all that a call to it carries.
 */

import type { KeyObject } from 'node:crypto'
import { randomBytes } from 'node:crypto'
import { type JWTPayload, jwtVerify, SignJWT } from 'jose'
import { Rejected, type SandboxId } from '#libs/domain'

/** A client's is renewed by the SDKs at half of it, a router's when a call is refused near its end. */
const SECONDS = 3_600

const CLIENT = 'modal-client'
const ROUTER = 'modal-router'

/** Whom a call to the command router is by, and the one sandbox that it may be about. */
export interface RouterAccess {
  tenant: string
  tokenId: string
  sandboxId: SandboxId
}

/** JavaScript decodes the payload as base64, which has no "-" and no "_". */
export async function signClientToken(key: KeyObject, tenant: string): Promise<string> {
  for (;;) {
    const token = await sign(key, CLIENT, tenant, { nonce: randomBytes(6).toString('hex') })
    if (!/[-_]/.test(token.split('.')[1]!)) return token
  }
}

export function signRouterToken(
  key: KeyObject,
  { tenant, tokenId, sandboxId }: RouterAccess,
): Promise<string> {
  return sign(key, ROUTER, sandboxId, { tenant, tokenId })
}

/** Go reads `exp` as a whole number. */
function sign(key: KeyObject, audience: string, subject: string, claims: JWTPayload): Promise<string> {
  return new SignJWT(claims)
    .setProtectedHeader({ alg: 'EdDSA', typ: 'JWT' })
    .setSubject(subject)
    .setAudience(audience)
    .setIssuedAt()
    .setExpirationTime(`${SECONDS}s`)
    .sign(key)
}

/** @throws Rejected UNAUTHENTICATED */
export async function verifyRouterToken(
  publicKey: KeyObject,
  authorization: string | null,
): Promise<RouterAccess> {
  const [scheme, token] = (authorization ?? '').split(' ')
  if (scheme?.toLowerCase() === 'bearer' && token) {
    try {
      const { payload } = await jwtVerify(token, publicKey, { audience: ROUTER, algorithms: ['EdDSA'] })
      const { tenant, tokenId, sub } = payload
      return { tenant: tenant as string, tokenId: tokenId as string, sandboxId: sub as SandboxId }
    } catch {
      // Told below.
    }
  }
  throw new Rejected('UNAUTHENTICATED', "the command router's token is missing, not valid or has expired", {
    hint: 'ask for access again: SandboxGetCommandRouterAccess',
  })
}
