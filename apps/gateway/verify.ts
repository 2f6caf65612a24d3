/** `verify` through the gateway: the same check as offline, on the copy of the trail that the gateway can read. */

import { SandtrailError } from '#libs/domain'
import { type VerifyReport, verifyTrail } from '#libs/event-store'
import type { GatewayParts } from './gateway.js'

type Trail = NonNullable<GatewayParts['trail']>

let running: Promise<VerifyReport> | null = null

/** Reads the whole log, so callers at the same time share one run. */
export async function verify({ file, publicKey, databaseUrl }: Trail): Promise<VerifyReport> {
  running ??= verifyTrail({ databaseUrl, trailFile: file, publicKey }).finally(() => {
    running = null
  })
  return await running
}

const busy = new Set<string>()

/**
 * One stream's events; the trail file is read as a whole even for one, so a tenant has one run at a time.
 *
 * @throws SandtrailError RESOURCE_EXHAUSTED
 */
export async function verifyStream(
  { file, publicKey, databaseUrl }: Trail,
  tenant: string,
  stream: string,
): Promise<VerifyReport> {
  if (busy.has(tenant)) {
    throw new SandtrailError('RESOURCE_EXHAUSTED', 'a stream of this tenant is being verified already', {
      hint: 'verify one after the other',
      retryAfterMs: 1_000,
    })
  }
  busy.add(tenant)
  try {
    return await verifyTrail({ databaseUrl, trailFile: file, publicKey, stream })
  } finally {
    busy.delete(tenant)
  }
}
