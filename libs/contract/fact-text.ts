/** What a worker tells in words, as an event can hold it. */

import type { Fact } from './worker.js'

/** UTF-16 units of each text in a fact. */
export const FACT_TEXT_MAX = 4_096
/** No list in a fact is longer: volumes are at most 32, left-overs are cut. */
export const FACT_LIST_MAX = 100

/**
 * A fact whose texts are cut to FACT_TEXT_MAX, without NUL and lone surrogates: tools, and guests through them, say
 * anything, and one fact that is refused would hold up all that follow.
 */
export function cleanFact<F extends object>(fact: F): F {
  return clean(fact) as F
}

/** The same fact, saying nothing in words: for one that is refused all the same. Codes, ids and numbers stay. */
export function withoutTexts(fact: Fact): Fact {
  switch (fact.kind) {
    case 'sandbox-cleaned-up':
      return { ...fact, leftovers: fact.leftovers.map(() => UNTOLD) }
    case 'sandbox-ended':
      return fact.ending.kind === 'failed' ? { ...fact, ending: { ...fact.ending, message: UNTOLD } } : fact
    case 'exec-ended':
      if (fact.ending.kind === 'failed') return { ...fact, ending: { ...fact.ending, message: UNTOLD } }
      return fact.ending.kind === 'lost' ? { ...fact, ending: { ...fact.ending, reason: UNTOLD } } : fact
    default:
      return fact
  }
}

const UNTOLD = 'not told: the control plane refused the text, see the worker log'

function clean(value: unknown): unknown {
  if (typeof value === 'string') {
    return value.replaceAll('\0', '\uFFFD').slice(0, FACT_TEXT_MAX).toWellFormed()
  }
  if (Array.isArray(value)) return value.slice(0, FACT_LIST_MAX).map(clean)
  if (value === null || typeof value !== 'object') return value
  return Object.fromEntries(Object.entries(value).map(([key, member]) => [key, clean(member)]))
}
