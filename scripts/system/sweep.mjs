/** Removes systems that a `kill -9` left behind: only those whose recorded owner is dead, or whose clone is gone. */
import { readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { dropDatabase } from './database.mjs'
import { removeLeftovers } from './leftovers.mjs'
import { identify, isAlive, listProcesses, stopProcess } from './processes.mjs'
import { abandonedDirs, ownedDirs } from './state.mjs'
import { isMain } from './tools.mjs'

/** @returns {Promise<string[]>} the directories that were removed */
export async function sweep() {
  const removed = []
  for (const dir of abandonedDirs()) {
    if (!claim(dir)) continue
    await destroy(dir)
    removed.push(dir)
  }
  return removed
}

/** Ends every private system of this process. */
export async function destroyOwned() {
  for (const dir of ownedDirs()) await destroy(dir)
}

let interrupted = false

/** Whoever fails because its system is being taken away has nothing to tell. */
export const wasInterrupted = () => interrupted

/** An interrupted process takes its private systems along, then ends as the signal wants. */
export function destroyOwnedOnSignals() {
  for (const name of /** @type {const} */ (['SIGINT', 'SIGTERM', 'SIGHUP'])) {
    process.once(name, () => {
      interrupted = true
      destroyOwned()
        .catch((error) => console.error(error.message))
        .finally(() => process.kill(process.pid, name))
    })
  }
}

/** Ends a system and removes all that it has, its data too. @param {string} dir */
export async function destroy(dir) {
  const records = listProcesses(dir)
  await Promise.all(records.map(({ name }) => stopProcess(dir, name, { graceMs: 2_000 })))
  await removeLeftovers(dir)
  await dropDatabase(dir)
  rmSync(dir, { recursive: true, force: true, maxRetries: 5 })
}

/** False when another process is at it. @param {string} dir */
function claim(dir) {
  const path = join(dir, 'sweeper.json')
  const claimant = JSON.stringify(identify(process.pid))
  try {
    writeFileSync(path, claimant, { flag: 'wx' })
    return true
  } catch {
    try {
      if (isAlive(JSON.parse(readFileSync(path, 'utf8')))) return false
      writeFileSync(path, claimant)
      return true
    } catch {
      return false // Just removed, or just being written.
    }
  }
}

if (isMain(import.meta.url)) for (const dir of await sweep()) console.log(`removed ${dir}`)
