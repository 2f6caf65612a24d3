/** Who may use the data plane: the bearer of a token that a gateway signed for this sandbox on this worker. */

import type { KeyObject } from 'node:crypto'
import type { IncomingMessage } from 'node:http'
import { jwtVerify } from 'jose'
import { DATA_PLANE_TOKEN_SECONDS_MAX } from '#libs/contract'
import { Rejected, type SandboxId } from '#libs/domain'

/** Of the two hosts' wall clocks. */
const CLOCK_SKEW_SECONDS = 60

/** @throws Rejected UNAUTHENTICATED, which does not tell why: a caller with the key knows. */
export async function checkToken(
  request: IncomingMessage,
  expected: { key: KeyObject; workerId: string; sandboxId: SandboxId },
): Promise<void> {
  const token = /^Bearer ([A-Za-z0-9._-]+)$/.exec(request.headers.authorization ?? '')?.[1]
  try {
    await jwtVerify(token ?? '', expected.key, {
      algorithms: ['EdDSA'],
      audience: expected.workerId,
      subject: expected.sandboxId,
      maxTokenAge: DATA_PLANE_TOKEN_SECONDS_MAX,
      clockTolerance: CLOCK_SKEW_SECONDS,
      requiredClaims: ['iat'],
    })
  } catch {
    throw new Rejected('UNAUTHENTICATED', 'a token for this sandbox on this worker is needed')
  }
}
