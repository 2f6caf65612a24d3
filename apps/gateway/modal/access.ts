/** The way to the command router: this port, by the name under which the client has reached it. */

import type { SandboxId } from '#libs/domain'
import type { Gateway } from '../gateway.js'
import type { Call } from './calls.js'
import { signRouterToken } from './tokens.js'

const PYTHON = '1'

export async function routerAccess(
  gateway: Gateway,
  { tenant, tokenId, authority, clientType }: Call,
  sandboxId: SandboxId,
): Promise<{ jwt: string; url: string }> {
  const jwt = await signRouterToken(gateway.dataPlaneKey, { tenant, tokenId, sandboxId })
  // Python dials what the scheme says; JavaScript and Go want https, and dial localhost in plaintext all the same.
  const scheme = clientType === PYTHON && gateway.encryption.certificate === null ? 'http' : 'https'
  return { jwt, url: `${scheme}://${authority}` }
}
