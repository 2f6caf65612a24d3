/** The log of one volume: a line per version, synced, oldest first. What is in it has happened. */

import type { VolumeVersion } from '#libs/domain'
import { appendDurably, readIfThere, writeDurably } from './durable.js'

export type LoggedVersion = VolumeVersion & { trigger: CommitTrigger }
export type CommitTrigger = 'commit' | 'sandbox-end'

/** `slot`: which of the writer's mounts it came from. `asIs`: the version is the writer's tree, nothing was merged. */
export type LogLine = LoggedVersion & { slot: string; asIs: boolean }

/** A last line without its newline is a write that a crash cut off: it has not happened. */
export async function readVolumeLog(path: string): Promise<LogLine[]> {
  const text = (await readIfThere(path)) ?? ''
  const whole = text.slice(0, text.lastIndexOf('\n') + 1)
  return whole
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => JSON.parse(line) as LogLine)
}

export async function appendToVolumeLog(path: string, line: LogLine): Promise<void> {
  const text = (await readIfThere(path)) ?? ''
  const whole = text.slice(0, text.lastIndexOf('\n') + 1)
  if (whole !== text || text === '') await writeDurably(path, whole)
  await appendDurably(path, JSON.stringify(line))
}
