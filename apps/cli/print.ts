/** Data on stdout, everything else on stderr. A table on a terminal, JSON otherwise and on demand. */

import { reportErrorsAsJson } from './failure.js'

export type Format = 'table' | 'json'

/** The format asked for with `-o`, or the one that fits where stdout goes. */
export function chooseFormat(asked: Format | undefined): Format {
  if (asked === 'json') reportErrorsAsJson()
  return asked ?? (process.stdout.isTTY ? 'table' : 'json')
}

export function printJson(value: unknown): void {
  process.stdout.write(`${JSON.stringify(value, null, 2)}\n`)
}

/** One line of text. */
export function printLine(text: string): void {
  process.stdout.write(`${text}\n`)
}

export function note(text: string): void {
  process.stderr.write(`${text}\n`)
}

/** Only for who looks on: nothing when stderr is a file or a pipe. */
export function progress(text: string): void {
  if (process.stderr.isTTY) note(text)
}

export function printTable(head: readonly string[], rows: readonly (readonly string[])[]): void {
  for (const line of layOut([head, ...rows], process.stdout.columns)) printLine(line)
}

/** Columns as wide as their widest cell, two blanks between; lines cut at `width`, where it is known. Pure. */
export function layOut(rows: readonly (readonly string[])[], width?: number): string[] {
  const clean = rows.map((row) => row.map(plain))
  const widths = clean[0]?.map((_, i) => Math.max(...clean.map((row) => row[i]?.length ?? 0))) ?? []
  return clean.map((row) => {
    const line = row.map((cell, i) => (i === row.length - 1 ? cell : cell.padEnd(widths[i]!))).join('  ')
    return width !== undefined && line.length > width ? `${line.slice(0, Math.max(1, width - 1))}…` : line
  })
}

/** Control characters would let what others named (tags, arguments) drive the terminal. */
export function plain(text: string): string {
  return text.replace(/\p{Cc}|\p{Cf}/gu, (character) => {
    return `\\x${character.codePointAt(0)!.toString(16).padStart(2, '0')}`
  })
}

/** What has no end of its own (arguments, texts of errors) as one cell; `-o json` has the whole. Pure. */
export function short(text: string, max = 60): string {
  return text.length > max ? `${text.slice(0, max - 1)}…` : text
}

/** `3m ago`. Pure. */
export function ago(time: string | null, now: Date): string {
  if (time === null) return '-'
  const seconds = Math.max(0, Math.round((now.getTime() - Date.parse(time)) / 1000))
  if (seconds < 60) return `${seconds}s ago`
  if (seconds < 3600) return `${Math.floor(seconds / 60)}m ago`
  if (seconds < 86_400) return `${Math.floor(seconds / 3600)}h ago`
  return `${Math.floor(seconds / 86_400)}d ago`
}
