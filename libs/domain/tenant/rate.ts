/** A token bucket: `perSecond` in the long run, `burst` at once after a pause. */

export interface Bucket {
  tokens: number
  /** Of any clock that does not go back. */
  atMs: number
}

export function fullBucket(burst: number, nowMs: number): Bucket {
  return { tokens: burst, atMs: nowMs }
}

/** The bucket after taking one token, and how long to wait when there was none: then nothing was taken. */
export function takeToken(
  bucket: Bucket,
  { perSecond, burst }: { perSecond: number; burst: number },
  nowMs: number,
): { bucket: Bucket; retryAfterMs: number | null } {
  const elapsedMs = Math.max(0, nowMs - bucket.atMs)
  const tokens = Math.min(burst, bucket.tokens + (elapsedMs * perSecond) / 1000)
  const atMs = Math.max(nowMs, bucket.atMs)
  if (tokens >= 1) return { bucket: { tokens: tokens - 1, atMs }, retryAfterMs: null }
  return { bucket: { tokens, atMs }, retryAfterMs: Math.ceil(((1 - tokens) * 1000) / perSecond) }
}
