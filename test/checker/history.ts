/**
 * What a client was promised and what it saw, as it saw it: JSON lines, each written before the client goes on. The
 * file belongs to the test, not to the system, so no fault of the system can change it.
 */

import { closeSync, openSync, readFileSync, writeSync } from 'node:fs'

export interface SeenOutput {
  bytes: number
  /** Hex. */
  sha256: string
}

export type HistoryEntry =
  | { kind: 'asked'; atMs: number; commandId: string; verb: string }
  /** `stream` and `version` as the acceptance names them. */
  | { kind: 'accepted'; atMs: number; commandId: string; stream: string; version: number }
  /** Finally: to ask again would get the same. */
  | { kind: 'refused'; atMs: number; commandId: string; code: string }
  /** It may have been taken or not. A client asks again; one that gives up leaves it so. */
  | { kind: 'unknown'; atMs: number; commandId: string; code: string }
  /** The end of an exec, and its output as it was read, byte by byte. */
  | {
      kind: 'exec-ended'
      atMs: number
      execId: string
      exitCode: number
      stdout: SeenOutput
      stderr: SeenOutput
    }
  | {
      kind: 'event'
      atMs: number
      follower: string
      position: number
      stream: string
      version: number
      type: string
    }

// Not `Omit`, which would merge the union's members into one.
type WithoutTime<Entry> = Entry extends unknown ? Omit<Entry, 'atMs'> : never

export class HistoryFile {
  private readonly file: number

  constructor(readonly path: string) {
    this.file = openSync(path, 'a', 0o600)
  }

  write(entry: WithoutTime<HistoryEntry>): void {
    writeSync(this.file, `${JSON.stringify({ atMs: Date.now(), ...entry })}\n`)
  }

  close(): void {
    closeSync(this.file)
  }
}

export function readHistory(path: string): HistoryEntry[] {
  const lines = readFileSync(path, 'utf8').split('\n').filter(Boolean)
  return lines.map((line) => JSON.parse(line) as HistoryEntry)
}
