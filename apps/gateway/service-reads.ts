/** Lists that another service keeps: snapshotter for images and snapshots, volume-syncer for volumes. */

import { type JsonObject, type Messaging, subjects } from '#libs/messaging'

/** @throws SandtrailError UNAVAILABLE when that service does not run */
export async function readFromService(
  messaging: Messaging,
  tenant: string,
  aggregate: 'image' | 'snapshot' | 'volume',
  verb: 'list' | 'get',
  body: JsonObject = {},
): Promise<JsonObject> {
  const { ok: _, ...answer } = await messaging.request(subjects.request(tenant, aggregate, verb), body)
  return answer
}
