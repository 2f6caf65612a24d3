/**
 * A URL that lets a worker, which has no credentials of the blob store, read one blob until a given time:
 * `<base>/v1/blobs/<sha256>?expires=<s since 1970>&signature=<HMAC-SHA256 of path and expiry, base64url>`.
 */

import { createHmac, timingSafeEqual } from 'node:crypto'

export function signBlobUrl(baseUrl: string, sha256: string, expiresAt: Date, key: Buffer): string {
  const expires = Math.floor(expiresAt.getTime() / 1000)
  const url = new URL(blobPath(sha256), baseUrl)
  url.searchParams.set('expires', String(expires))
  url.searchParams.set('signature', signature(sha256, String(expires), key).toString('base64url'))
  return url.href
}

/** True when the signature is right for exactly this digest and expiry, and the time is not over. */
export function verifyBlobUrl(
  sha256: string,
  query: { expires?: unknown; signature?: unknown },
  key: Buffer,
  now: Date = new Date(),
): boolean {
  const { expires, signature: given } = query
  if (typeof expires !== 'string' || typeof given !== 'string' || !/^\d{1,12}$/.test(expires)) return false
  const wanted = signature(sha256, expires, key)
  const got = Buffer.from(given, 'base64url')
  return (
    got.length === wanted.length && timingSafeEqual(got, wanted) && Number(expires) * 1000 > now.getTime()
  )
}

export function blobPath(sha256: string): string {
  return `/v1/blobs/${sha256}`
}

function signature(sha256: string, expires: string, key: Buffer): Buffer {
  return createHmac('sha256', key)
    .update(`GET ${blobPath(sha256)} ${expires}`)
    .digest()
}
