/** What the checker says. Nothing found is `ok`. */

/**
 *   lost         it was promised, or stood in the log, and is not there
 *   duplicated   one cause had its effect twice
 *   phantom      it is there, and nobody was promised it, or it cannot have happened
 *   stuck        accepted, and it has not come to its end in its time
 *   leaked       it is on the host, and nothing alive has a use for it
 */
export type Verdict = 'lost' | 'duplicated' | 'phantom' | 'stuck' | 'leaked'

export interface Finding {
  verdict: Verdict
  /** The invariant that is broken, as docs/reliability.md numbers them. */
  rule: string
  /** Null for what belongs to no stream, such as a thing on the host that names none. */
  stream: string | null
  version: number | null
  /** In the ledger; null while it has none. */
  position: number | null
  message: string
}

export function finding(
  verdict: Verdict,
  rule: string,
  at: { stream?: string | null; version?: number | null; position?: number | null },
  message: string,
): Finding {
  const { stream = null, version = null, position = null } = at
  return { verdict, rule, stream, version, position, message }
}

/** One line each, for people. */
export function describeFinding({ verdict, rule, stream, version, position, message }: Finding): string {
  const where = [stream, version === null ? null : `version ${version}`, position && `position ${position}`]
  return `${verdict} (${rule}) ${where.filter(Boolean).join(', ')}: ${message}`
}
