/**
 * Values of env and small stdins: sealed in the event by the tenant's key, opened here only to be sealed again to the
 * worker that needs them. They are never in `data`, a log line or an order in the clear.
 */

import type { Secrets } from '#libs/contract'
import type { ExecId, SandboxId } from '#libs/domain'
import { type JsonObject, readStream } from '#libs/event-store'
import type { Scheduler } from './context.js'

/** Null when there is nothing to hide: an event without secrets has no `sealed` part. */
export async function sealForLog(
  { sealer }: Scheduler,
  tenant: string,
  stream: SandboxId | ExecId,
  secrets: Secrets,
): Promise<Buffer | null> {
  if (!hasSecrets(secrets)) return null
  return sealer.seal(tenant, stream, { ...secrets } as JsonObject)
}

export function hasSecrets({ env, stdin }: Secrets): boolean {
  return Object.keys(env).length > 0 || stdin !== undefined
}

/** What was sealed into a stream's first event. */
export async function openFromLog(
  { db, sealer }: Scheduler,
  tenant: string,
  stream: SandboxId | ExecId,
): Promise<Secrets> {
  const [first] = await readStream(db, stream, { limit: 1 })
  if (!first?.sealed) return { env: {} }
  return (await sealer.open(tenant, stream, first.sealed)) as unknown as Secrets
}
