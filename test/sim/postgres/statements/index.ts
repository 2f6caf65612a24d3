/** The statements that the model knows, found by what is particular to their text. */

import { append } from './append.js'
import { claims } from './claims.js'
import { commands } from './commands.js'
import { events } from './events.js'
import { ledger } from './ledger.js'
import { live } from './live.js'
import { openExecs } from './open-execs.js'
import { positions } from './positions.js'
import type { Statement } from './statement.js'
import { timers } from './timers.js'
import { workers } from './workers.js'

class Known {
  private readonly found = new Map<string, Statement>()
  private readonly all = [
    append,
    commands,
    events,
    live,
    claims,
    timers,
    workers,
    positions,
    ledger,
    openExecs,
  ]

  /** @throws Error for what the model does not know: it is to be taught there. */
  find(text: string): Statement {
    const known = this.found.get(text)
    if (known) return known
    const matches = this.all.flat().filter(([part]) => part.test(text))
    if (matches.length !== 1) {
      throw new Error(`the model of Postgres knows ${matches.length} meanings of: ${text}`)
    }
    this.found.set(text, matches[0]![1])
    return matches[0]![1]
  }
}

export const statements = new Known()
