/** `append_commands` of migrations/330-append.ts: all that a group of commands writes, in the order of its locks. */

import { takeClaims } from './claims.js'
import { insertCommands } from './commands.js'
import { insertEvents } from './events.js'
import { changeLive } from './live.js'
import { reserve, takeSlots } from './reservations.js'
import { result, type Statements, type Step } from './statement.js'
import { changeTimers } from './timers.js'

const STEPS: Step[] = [insertCommands, changeLive, takeClaims, insertEvents, changeTimers, reserve, takeSlots]

export const append: Statements = [
  [
    /select append_commands/,
    (call) => {
      const p = JSON.parse(String(call.values[0]))
      let refusal: object | null = null
      try {
        for (const step of STEPS) {
          refusal = step(call, p)
          if (refusal !== null) break
        }
      } catch (error) {
        call.tx.undo() // It begins anew once it has its lock.
        throw error
      }
      if (refusal !== null) call.tx.undo()
      return result([{ refusal }])
    },
  ],
]
