/**
 * The one way out of a sandbox's life. Every step may be cut off by a kill -9 and is done again by the next worker
 * process; the journal tells where it was.
 *
 *   1. no exec starts any more; those that run are killed, and their ends reported
 *   2. the runtime is killed, its processes are gone
 *   3. what was written to the volumes is staged
 *   4. the terminal fact
 *   5. everything on the host is undone, then the fact of that
 *   6. when the control plane has all facts, the record goes
 */

import { setTimeout as delay } from 'node:timers/promises'
import type { EndingReport, StagedVolume } from '#libs/domain'
import { failpoint } from '#libs/failpoint'
import type { Sandbox } from './sandbox.js'

/** SIGKILL to every process group is answered at once; a guest that is stuck is not waited for. */
const EXITS_MS_MAX = 5_000
/** Of the guest's cached writes to its volumes, as for a snapshot. */
const SYNC_MS_MAX = 10_000
const KILL_GRACE_MS = 1_000
const RETRY_MS_MIN = 200
const RETRY_MS_MAX = 30_000
/** What would not go by then is told in the event; it is tried on all the same. */
const CLEANUP_REPORT_MS = 60_000

/** Never rejects: what fails is tried again until it succeeds. */
export async function finishSandbox(sandbox: Sandbox): Promise<void> {
  await untilDone(sandbox, 'ending', () => reachEnd(sandbox))
  await cleanUp(sandbox)
  if (!(await sandbox.deps.outbox.drained(sandbox))) return
  await untilDone(sandbox, 'removal', () => sandbox.deps.onGone(sandbox))
}

async function reachEnd(sandbox: Sandbox): Promise<void> {
  await sandbox.settled
  const { journal, execs } = sandbox
  if (journal.state.ended) return journal.sync()
  await journal.sync()
  failpoint('ending-written')
  execs.refuseWaiting()
  await sandbox.lock(() => killAll(sandbox))
  failpoint('ending-killed')
  execs.loseOpen(`its sandbox ended: ${tell(journal.state.cause!)}`)
  const staged = await stage(sandbox)
  failpoint('ending-staged')
  journal.report({ kind: 'sandbox-ended', ending: journal.state.cause!, staged })
  await journal.sync()
  failpoint('ending-reported')
}

function tell(cause: EndingReport): string {
  switch (cause.kind) {
    case 'failed':
      return `${cause.message} (${cause.code})`
    case 'timed-out':
      return cause.reason === 'idle' ? 'it was idle for too long' : 'its lifetime was over'
    case 'exited':
      return 'its main command ended'
    case 'stopped':
      return 'it was stopped'
  }
}

async function killAll({ running, execs, spec, log }: Sandbox): Promise<void> {
  if (running === null) return
  execs.killAll()
  await Promise.race([execs.allClosed(), running.exited, delay(EXITS_MS_MAX, undefined, { ref: false })])
  const writesVolumes = spec?.volumes.some((volume) => !volume.readOnly) ?? false
  if (writesVolumes) {
    await running.agent
      .sync(SYNC_MS_MAX)
      .catch((err) => log.warn({ err }, 'guest did not sync before its end'))
  }
  await running.kill(KILL_GRACE_MS)
}

async function stage(sandbox: Sandbox): Promise<StagedVolume[]> {
  // A sandbox that never ran has written nothing.
  if (sandbox.spec === null || sandbox.journal.state.runningSince === null) return []
  return sandbox.deps.stageVolumes(sandbox)
}

async function cleanUp(sandbox: Sandbox): Promise<void> {
  const { journal, deps, sandboxId, dir, log } = sandbox
  const reportBy = performance.now() + CLEANUP_REPORT_MS
  for (let failures = 0; ; failures++) {
    const leftovers = await deps.driver.destroy(sandboxId, dir).catch((err) => {
      log.warn({ err }, 'clean-up failed, will be tried again')
      return ['unknown']
    })
    const isGone = leftovers.length === 0
    if (!journal.state.cleanedUp && (isGone || performance.now() > reportBy)) {
      journal.report({ kind: 'sandbox-cleaned-up', leftovers })
    }
    if (isGone) return
    await backOff(failures)
  }
}

async function untilDone(sandbox: Sandbox, what: string, work: () => Promise<void>): Promise<void> {
  for (let failures = 0; ; failures++) {
    try {
      return await work()
    } catch (err) {
      sandbox.log.error({ err, what }, 'step failed, will be tried again')
      await backOff(failures)
    }
  }
}

async function backOff(failures: number): Promise<void> {
  await delay(Math.min(RETRY_MS_MIN * 2 ** failures, RETRY_MS_MAX))
}
