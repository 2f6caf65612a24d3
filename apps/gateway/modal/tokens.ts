/**
 * What the SDKs are given to show again: a token of the client, which they renew and send beside their id and secret
 * (those alone count here), and the command router's, which is all that a call to it carries.
 */

import type { KeyObject } from 'node:crypto'
import { randomBytes } from 'node:crypto'
import { jwtVerify, SignJWT } from 'jose'
import { Rejected, type SandboxId } from '#libs/domain'

/** Renewed by the SDKs at half of it. */
const CLIENT_SECONDS = 3_600
/** Of a sandbox's whole life at most: an SDK whose token has not expired on paper never asks for another. */
const ROUTER_SECONDS = 3_600

const CLIENT = 'modal-client'
const ROUTER = 'modal-router'

/** Whom a call to the command router is by, and the one sandbox that it may be about. */
export interface RouterAccess {
  tenant: string
  tokenId: string
  sandboxId: SandboxId
}

/** Go reads `exp` as a whole number; JavaScript decodes the payload as base64, which has no "-" and no "_". */
export async function signClientToken(key: KeyObject, tenant: string): Promise<string> {
  for (;;) {
    const token = await new SignJWT({ nonce: randomBytes(6).toString('hex') })
      .setProtectedHeader({ alg: 'EdDSA', typ: 'JWT' })
      .setSubject(tenant)
      .setAudience(CLIENT)
      .setIssuedAt()
      .setExpirationTime(`${CLIENT_SECONDS}s`)
      .sign(key)
    if (!/[-_]/.test(token.split('.')[1]!)) return token
  }
}

export async function signRouterToken(
  key: KeyObject,
  { tenant, tokenId, sandboxId }: RouterAccess,
): Promise<string> {
  return await new SignJWT({ tenant, tokenId })
    .setProtectedHeader({ alg: 'EdDSA', typ: 'JWT' })
    .setSubject(sandboxId)
    .setAudience(ROUTER)
    .setIssuedAt()
    .setExpirationTime(`${ROUTER_SECONDS}s`)
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
