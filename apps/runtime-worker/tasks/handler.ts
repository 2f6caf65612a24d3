/**
 * `wrk.<worker>.task`: work on this worker's pool, asked for by snapshotter and volume-syncer. Each task is idempotent
 * by its ids, so it may be asked for any number of times, also after a restart of either side.
 */

import type { Task, TaskReply, TaskResult } from '#libs/contract'
import type { Log } from '#libs/service'
import { KeyedLock, type Pool } from '#libs/storage'
import type { Tidied } from '../janitor.js'
import { importImage, removeImage, takeSnapshot } from './image-tasks.js'
import type { LiveSandboxes } from './live-sandbox.js'
import { TaskRuns } from './runs.js'
import { keyOf, parseTask } from './task.js'
import { commitVolume, reloadVolume, removeVolume } from './volume-tasks.js'

export interface TaskTools {
  pool: Pool
  sandboxes: LiveSandboxes
  /** Where the sandbox sees its directory of mount slots. */
  guestSlots: string
  /** See janitor.ts. */
  tidy(dryRun: boolean): Promise<Tidied>
  /** PEM of the authority of the gateway's certificate; absent: the system's. */
  ca?: string | undefined
  log: Log
}

export function createTaskHandler(tools: TaskTools): (body: object) => Promise<TaskReply> {
  const runs = new TaskRuns()
  const locks = new KeyedLock()
  return async (body) => {
    const task = parseTask(body)
    return runs.join(keyOf(task), () => locks.run(subjectOf(task), () => logged(tools, task)))
  }
}

/** One at a time for an image: its removal, asked for while it is being made, comes after. */
function subjectOf(task: Task): string {
  return 'imageId' in task ? task.imageId : keyOf(task)
}

async function logged(tools: TaskTools, task: Task): Promise<TaskResult> {
  const startedMs = performance.now()
  // The URL of a blob is a credential.
  const { kind, url: _, ...fields } = { url: '', ...task }
  const tookMs = () => Math.round(performance.now() - startedMs)
  try {
    const result = await perform(tools, task)
    tools.log.info({ task: kind, ...fields, tookMs: tookMs() }, 'task done')
    return result
  } catch (err) {
    tools.log.warn({ err, task: kind, ...fields, tookMs: tookMs() }, 'task failed')
    throw err
  }
}

async function perform(
  { pool, sandboxes, guestSlots, tidy, ca }: TaskTools,
  task: Task,
): Promise<TaskResult> {
  switch (task.kind) {
    case 'snapshot':
      return takeSnapshot(pool, sandboxes, task)
    case 'import-image':
      return importImage(pool, task, ca)
    case 'remove-image':
      return removeImage(pool, task)
    case 'commit-volume':
      return commitVolume(pool, sandboxes, task)
    case 'reload-volume':
      return reloadVolume(pool, sandboxes, guestSlots, task)
    case 'remove-volume':
      return removeVolume(pool, task)
    case 'prune':
      return { kind: 'prune', ...(await tidy(task.dryRun)) }
  }
}
