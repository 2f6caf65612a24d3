/** A bearer token as callers hold it: `st_<id>_<secret>`, one string that names itself and that secret scanners know. */

export interface BearerToken {
  id: string
  secret: string
}

// Id and secret may hold "_" themselves: their fixed lengths keep them apart.
const BEARER = /^st_(ak-[A-Za-z0-9_-]{16})_(as-[A-Za-z0-9_-]{32})$/

export function formatToken({ id, secret }: BearerToken): string {
  return `st_${id}_${secret}`
}

/** null for what cannot be one. */
export function parseToken(text: string): BearerToken | null {
  const [, id, secret] = BEARER.exec(text) ?? []
  return id !== undefined && secret !== undefined ? { id, secret } : null
}
