/** Which types of events a caller means: `SandboxFinished`, `Sandbox*`, `sandbox.finished` or `sandbox.*`. */

import {
  APP_TRANSITIONS,
  EXEC_TRANSITIONS,
  IMAGE_TRANSITIONS,
  Rejected,
  SANDBOX_TRANSITIONS,
  SNAPSHOT_TRANSITIONS,
  VOLUME_TRANSITIONS,
} from '#libs/domain'

/** Every type that a tenant's streams can have. */
const EVENT_TYPES: readonly string[] = [
  ...new Set(
    [
      SANDBOX_TRANSITIONS,
      EXEC_TRANSITIONS,
      IMAGE_TRANSITIONS,
      SNAPSHOT_TRANSITIONS,
      VOLUME_TRANSITIONS,
      APP_TRANSITIONS,
    ].flatMap((table) => table.map(({ event }) => event)),
  ),
  'CommandRejected',
]

/** Far more than there are types. */
export const PATTERNS_MAX = 64

/**
 * The types that `patterns` name. A star stands at the end only: anything freer would be matched by backtracking, and
 * a caller could make that take for ever.
 *
 * @throws Rejected INVALID_ARGUMENT for a pattern that fits no type: a misspelt one would wait for ever
 */
export function expandTypes(patterns: readonly string[] | undefined): string[] | undefined {
  if (patterns === undefined) return undefined
  if (patterns.length > PATTERNS_MAX) {
    throw new Rejected('INVALID_ARGUMENT', `type: at most ${PATTERNS_MAX} patterns, not ${patterns.length}`)
  }
  const found = patterns.flatMap((pattern) => {
    const types = EVENT_TYPES.filter((type) => fits(pattern, type))
    if (types.length > 0) return types
    throw new Rejected(
      'INVALID_ARGUMENT',
      `type: no event type fits ${JSON.stringify(pattern.slice(0, 80))}`,
      {
        hint: `types are ${EVENT_TYPES.join(', ')}; "Exec*" or "exec.*" stand for several`,
      },
    )
  })
  return [...new Set(found)]
}

function fits(pattern: string, type: string): boolean {
  const isPrefix = pattern.endsWith('*')
  const wanted = isPrefix ? pattern.slice(0, -1) : pattern
  // Names are compared without case only behind an aggregate: `exec.exited` is what a subject calls ExecExited.
  const [word, name] = wanted.includes('.')
    ? [wanted.replace('.', '').toLowerCase(), type.toLowerCase()]
    : [wanted, type]
  return isPrefix ? name.startsWith(word) : name === word
}
