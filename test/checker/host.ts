/** The host against the log: nothing of an ended sandbox is left (I-7), and after a drain nothing that was not there before (I-15). */

import { readdirSync } from 'node:fs'
import { join } from 'node:path'
import { inventory } from '../../scripts/system/inventory.mjs'
import { type Finding, finding } from './finding.js'

const SANDBOX_ID = /sb-[0-9A-HJKMNP-TV-Z]{26}/g

/** One thing on the host: `{kind, name, …}` as a line of JSON, pids left out, since processes are restarted. */
export async function takeInventory({ id, dir }: { id: string; dir: string }): Promise<string[]> {
  const things = (await inventory({ id })).map((line) => {
    const { pid: _, ...thing } = JSON.parse(line) as { pid?: number }
    return JSON.stringify(thing)
  })
  return [...things, ...filesOf(dir)].sort()
}

/** Records, roots, slots: every entry that bears the name of what made it. Outputs and tombstones stay on purpose. */
function filesOf(dir: string): string[] {
  const workers = list(join(dir, 'workers')).flatMap((worker) => list(join(worker, 'sandboxes')))
  const pools = list(join(dir, 'pools')).flatMap((pool) =>
    ['roots', 'slots', 'slot-records', 'tmp'].flatMap((folder) => list(join(pool, folder))),
  )
  return [...workers, ...pools].map((name) => JSON.stringify({ kind: 'file', name }))
}

function list(dir: string): string[] {
  try {
    return readdirSync(dir).map((name) => join(dir, name))
  } catch {
    return [] // A pool's image is a file, and what is being removed may be gone.
  }
}

/** @param alive sandboxes that may have something on the host */
export function judgeHost(found: readonly string[], alive: ReadonlySet<string>): Finding[] {
  return found.flatMap((line) => {
    const ended = (line.match(SANDBOX_ID) ?? []).find((sandboxId) => !alive.has(sandboxId))
    return ended ? [finding('leaked', 'I-7', { stream: ended }, `left on the host: ${line}`)] : []
  })
}

/** With no sandbox alive. What is gone that was there, such as the mount of a pool, is lost. */
export function judgeInventory(before: readonly string[], after: readonly string[]): Finding[] {
  const streamOf = (line: string) => ({ stream: line.match(SANDBOX_ID)?.[0] ?? null })
  return [
    ...without(after, before).map((line) =>
      finding('leaked', 'I-15', streamOf(line), `was not there before: ${line}`),
    ),
    ...without(before, after).map((line) =>
      finding('lost', 'I-15', streamOf(line), `was there before: ${line}`),
    ),
  ]
}

/** The lines of `from` that `taken` does not have, or has fewer of. */
function without(from: readonly string[], taken: readonly string[]): string[] {
  const counts = new Map<string, number>()
  for (const line of taken) counts.set(line, (counts.get(line) ?? 0) + 1)
  return from.filter((line) => {
    const count = counts.get(line) ?? 0
    counts.set(line, count - 1)
    return count <= 0
  })
}
