/**
 * Undo is written before do. An undo log is an append-only file of what a sandbox may have on the host; a
 * record is added before the thing that it names exists and marked as done when the thing is verified gone.
 */

import { appendFileSync } from 'node:fs'
import { readFile } from 'node:fs/promises'
import { syncPath } from '#libs/storage'

interface Kinds {
  kind: string
}

/** What undoes one kind of record. Both must be safe to repeat: a half-done undo is simply run again. */
export interface Undoer<R> {
  undo(record: R): Promise<void>
  isGone(record: R): Promise<boolean>
}

export type Undoers<R extends Kinds> = { [K in R['kind']]: Undoer<Extract<R, { kind: K }>> }

/** One record as it stands in the log; `n` is its place in the file, counted from 0. */
export interface LoggedRecord<R> {
  n: number
  record: R
}

type Line<R> = { record: R } | { gone: number }

export class UndoLog<R extends Kinds> {
  constructor(private readonly path: string) {}

  /** Appends records, oldest first. They survive a kill -9 from here on: what they name may be made. */
  add(records: readonly R[]): void {
    this.append(records.map((record): Line<R> => ({ record })))
  }

  /** Makes them survive a power cut too, which leaves nothing of a sandbox but files. */
  sync(): Promise<void> {
    return syncPath(this.path)
  }

  /** Marks a record: what it names is gone. Not fsynced: a lost mark only repeats an idempotent undo. */
  remove(logged: LoggedRecord<R>): void {
    this.append([{ gone: logged.n }])
  }

  /** What is left to undo, newest first; nothing when there is no file. */
  async newestFirst(): Promise<LoggedRecord<R>[]> {
    const left = new Map<number, R>()
    let n = 0
    for (const line of await this.lines()) {
      if ('gone' in line) left.delete(line.gone)
      else left.set(n++, line.record)
    }
    return [...left].map(([number, record]) => ({ n: number, record })).reverse()
  }

  private async lines(): Promise<Line<R>[]> {
    const text = await readFile(this.path, 'utf8').catch((error: NodeJS.ErrnoException) => {
      if (error.code === 'ENOENT') return ''
      throw error
    })
    return text
      .split('\n')
      .map((line) => parseLine<R>(line))
      .filter((line) => line !== null)
  }

  private append(lines: readonly Line<R>[]): void {
    // The newline in front keeps a line that a crash cut short apart from this one.
    appendFileSync(this.path, lines.map((line) => `\n${JSON.stringify(line)}\n`).join(''), { mode: 0o600 })
  }
}

/** Null for an empty line, and for one cut by a crash before its fsync: what it names was never begun. */
function parseLine<R>(line: string): Line<R> | null {
  try {
    return JSON.parse(line) as Line<R>
  } catch {
    return null
  }
}

/**
 * Undoes records, newest first. Resolves with what is left: the one that would not go and everything older, because
 * older things hold what the newer ones stand on. An empty list: nothing of this log is on the host any more.
 *
 * An undoer that throws is one whose thing would not go; `onError` hears why.
 */
export async function unwind<R extends Kinds>(
  log: UndoLog<R>,
  undoers: Undoers<R>,
  onError: (record: R, error: unknown) => void,
): Promise<R[]> {
  const records = await log.newestFirst()
  for (const [i, logged] of records.entries()) {
    const undoer = undoers[logged.record.kind as R['kind']] as Undoer<R>
    try {
      await undoer.undo(logged.record)
      if (await undoer.isGone(logged.record)) {
        log.remove(logged)
        continue
      }
    } catch (error) {
      onError(logged.record, error)
    }
    return records.slice(i).map((left) => left.record)
  }
  return []
}
