/** Pool work on a worker, asked for until it is done. Tasks are idempotent by their ids: asking again joins the run. */

import type { Task, TaskReply, TaskResult } from '#libs/contract'
import { SandtrailError, type WorkerId } from '#libs/domain'
import { type Messaging, workerSubject } from '#libs/messaging'

/** A worker answers `pending` after 20 s. */
const REPLY_MS = 25_000

/**
 * Asks while the answer is `pending`, at most for `withinMs`.
 *
 * @throws what the worker refused with; UNAVAILABLE when it is away; DEADLINE_EXCEEDED when it still works on it.
 * After the latter two, ask again: the work is done once.
 */
export async function runTask<K extends Task['kind']>(
  messaging: Messaging,
  workerId: WorkerId,
  task: Extract<Task, { kind: K }>,
  withinMs: number,
): Promise<Extract<TaskResult, { kind: K }>> {
  const deadline = performance.now() + withinMs
  do {
    const reply = (await messaging.request(workerSubject(workerId, 'task'), task, {
      timeoutMs: REPLY_MS,
    })) as unknown as TaskReply
    if (!reply.pending) return reply.result as Extract<TaskResult, { kind: K }>
  } while (performance.now() < deadline)
  throw new SandtrailError('DEADLINE_EXCEEDED', `worker ${workerId} still works on ${task.kind}`)
}
