/**
 * One worker per state directory, by flock(2): the kernel lets go of it whatever way the holder dies. Node has no
 * flock, so a child holds it: `flock` that becomes `cat`, which ends when our end of its stdin closes, that is, with
 * this process. When the child dies first, the lock is gone and this process must not go on.
 */

import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import { SandtrailError } from '#libs/domain'

/** A killed worker's child needs a moment to see the end of its stdin. */
const WAIT_SECONDS = 5

export interface StateLock {
  /** Resolves when the lock was lost although nobody released it. */
  readonly lost: Promise<void>
  release(): Promise<void>
}

/** @throws SandtrailError UNAVAILABLE when another worker holds the directory. */
export async function lockState(stateDir: string, waitSeconds = WAIT_SECONDS): Promise<StateLock> {
  await mkdir(stateDir, { recursive: true, mode: 0o700 })
  const argv = ['--exclusive', '--timeout', `${waitSeconds}`, '--no-fork', join(stateDir, 'lock'), 'cat']
  // A session of its own: Ctrl-C on a terminal must not take the lock from a worker that is still stopping.
  const child = spawn('flock', argv, { stdio: ['pipe', 'pipe', 'inherit'], detached: true })
  const exited = once(child, 'exit')
  exited.catch(() => {})
  if (!(await answers(child, exited))) {
    throw new SandtrailError('UNAVAILABLE', `another worker holds the state directory ${stateDir}`, {
      hint: 'stop it, or give this worker a SANDTRAIL_WORKER_STATE_DIR of its own',
    })
  }
  let released = false
  return {
    lost: exited.then(() => (released ? new Promise<void>(() => {}) : undefined)),
    async release() {
      released = true
      child.stdin?.end()
      await exited
    },
  }
}

/** `cat` runs, and so holds the lock, once it has sent back what it was given. */
async function answers(child: ChildProcess, exited: Promise<unknown[]>): Promise<boolean> {
  child.stdin?.on('error', () => {}) // EPIPE: told by the exit.
  child.stdin?.write('held\n')
  const echoed = once(child.stdout!, 'data').then(() => true)
  return Promise.race([echoed, exited.then(() => false)])
}
