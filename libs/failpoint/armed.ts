/**
 * Takes the place of `index.ts` under `node --conditions=failpoints`. SANDTRAIL_FAILPOINT is `name`, `name:nth` or
 * `name:nth:action`: at the nth pass (1) the action (`kill`) happens, once. The key is taken out of the environment, so
 * that neither the service's own configuration nor a process that it starts sees it.
 */

import { writeSync } from 'node:fs'
import { ACTIONS, type Action, FAILPOINTS, type Failpoint } from './names.js'

export { ACTIONS, type Action, FAILPOINTS, type Failpoint } from './names.js'

interface Trap {
  name: Failpoint
  /** Passes until it happens. */
  left: number
  action: Action
}

let trap = readTrap(process.env.SANDTRAIL_FAILPOINT ?? '')
delete process.env.SANDTRAIL_FAILPOINT

export function failpoint(name: Failpoint): void {
  if (trap?.name !== name) return
  trap.left -= 1
  if (trap.left > 0) return
  const { action } = trap
  trap = null
  tell(name, action)
  act(name, action)
}

/** Past the log's own buffer: it may be the last that is heard of this process. Nobody listening changes nothing. */
function tell(name: Failpoint, action: Action): void {
  try {
    writeSync(2, `${JSON.stringify({ failpoint: name, action })}\n`)
  } catch {} // A pipe that is full or closed.
}

function act(name: Failpoint, action: Action): void {
  switch (action) {
    case 'kill':
      process.kill(process.pid, 'SIGKILL')
      stand()
      return
    case 'stop':
      process.kill(process.pid, 'SIGSTOP')
      return
    case 'throw':
      throw new Error(`failpoint ${name}`)
    case 'hang':
      stand()
  }
}

/** Not a line further. The event loop stands too: to whoever asks, this process is there and says nothing. */
function stand(): void {
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0)
}

/** @throws Error for what names no place or action: a test that breaks nothing proves nothing. */
export function readTrap(text: string): Trap | null {
  if (text === '') return null
  const [name = '', nth = '1', action = 'kill'] = text.split(':')
  const places: readonly string[] = Object.values(FAILPOINTS).flat()
  if (!places.includes(name)) throw new Error(`SANDTRAIL_FAILPOINT: no place is called ${name}`)
  if (!/^[1-9]\d{0,5}$/.test(nth)) throw new Error(`SANDTRAIL_FAILPOINT: ${nth} is not a number of passes`)
  if (!(ACTIONS as readonly string[]).includes(action)) {
    throw new Error(`SANDTRAIL_FAILPOINT: ${action} is not one of ${ACTIONS.join(', ')}`)
  }
  return { name: name as Failpoint, left: Number(nth), action: action as Action }
}
