/** `verify` through the gateway: the same check as offline, on the copy of the trail that the gateway can read. */

import { type VerifyReport, verifyTrail } from '#libs/event-store'
import type { GatewayParts } from './gateway.js'

let running: Promise<VerifyReport> | null = null

/** Reads the whole log (or one stream's part of it), so callers at the same time share one run. */
export async function verify(
  { file, publicKey, databaseUrl }: NonNullable<GatewayParts['trail']>,
  stream: string | undefined,
): Promise<VerifyReport> {
  const wanted = { databaseUrl, trailFile: file, publicKey }
  if (stream !== undefined) return await verifyTrail({ ...wanted, stream })
  running ??= verifyTrail(wanted).finally(() => {
    running = null
  })
  return await running
}
