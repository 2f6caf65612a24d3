/** The local terminal while a remote one is shown in it. Whatever happens, it is given back as it was. */

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
export function enterRawMode(input: ReadStream): () => void {
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
  process.on('exit', restore)
  for (const signal of ENDING) process.on(signal, end)
  return restore
}

/** What ends the process without an exit of its own. */
const ENDING = ['SIGTERM', 'SIGHUP'] as const

/** Calls back with each new size; returns the undoing. */
export function watchSize(output: WriteStream, changed: (size: Size) => void): () => void {
  const tell = () => changed(terminalSize(output))
  output.on('resize', tell)
  return () => output.off('resize', tell)
}
