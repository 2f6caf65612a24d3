/** The local terminal while a remote one is shown in it. Whatever happens, it is given back as it was. */

import { execFileSync } from 'node:child_process'
import type { ReadStream, WriteStream } from 'node:tty'

export interface Size {
  rows: number
  cols: number
}

/** Of the local terminal; what a terminal without a size is taken for. */
export function terminalSize(output: WriteStream = process.stdout): Size {
  return { rows: output.rows || 24, cols: output.columns || 80 }
}

/** Keys go to the remote side as they are, Ctrl-C too. Returns the undoing, which also runs when the process ends. */
export function enterRawMode(input: ReadStream & { fd: number }): () => void {
  let raw = true
  const restore = () => {
    if (!raw) return
    raw = false
    process.off('exit', restore)
    for (const signal of ENDING) process.off(signal, end)
    input.setRawMode(false)
  }
  const end = (signal: NodeJS.Signals) => {
    restore()
    process.exit(128 + (signal === 'SIGHUP' ? 1 : 15))
  }
  input.setRawMode(true)
  keepOutput(input)
  process.on('exit', restore)
  for (const signal of ENDING) process.on(signal, end)
  return restore
}

/**
 * Node's raw mode still turns each line feed into two characters, which the remote terminal has done already: a
 * full-screen program would be drawn wrongly. What is set here goes back with the rest.
 */
function keepOutput(terminal: ReadStream & { fd: number }): void {
  try {
    execFileSync('stty', ['-opost'], { stdio: [terminal.fd, 'ignore', 'ignore'] })
  } catch {
    // Without stty most programs still look right.
  }
}

/** What ends the process without an exit of its own. */
const ENDING = ['SIGTERM', 'SIGHUP'] as const

/** Calls back with each new size; returns the undoing. */
export function watchSize(output: WriteStream, changed: (size: Size) => void): () => void {
  const tell = () => changed(terminalSize(output))
  output.on('resize', tell)
  return () => output.off('resize', tell)
}
