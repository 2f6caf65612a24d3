/** Asks a worker for work on its pool, again and again until it is done: a task is idempotent by its ids. */

import type { Task, TaskReply, TaskResult } from '#libs/contract'
import { SandtrailError } from '#libs/domain'
import { type Messaging, workerSubject } from '#libs/messaging'

/** A worker answers `pending` after 20 s. */
const REPLY_MS_MAX = 30_000
const BACKOFF_MS = [250, 5_000] as const

export interface AskOptions {
  signal: AbortSignal
  /** How long the worker may be away, or say that its trouble passes, before the caller hears of it. */
  patienceMs: number
}

/**
 * @throws Rejected or SandtrailError as the worker gave it; what may pass only after `patienceMs` of it;
 *   DEADLINE_EXCEEDED once `signal` has fired
 */
export async function askWorker<K extends Task['kind']>(
  messaging: Messaging,
  workerId: string,
  task: Extract<Task, { kind: K }>,
  { signal, patienceMs }: AskOptions,
): Promise<Extract<TaskResult, { kind: K }>> {
  let backoffMs: number = BACKOFF_MS[0]
  let troubleSince: number | null = null
  for (;;) {
    const late = new SandtrailError('DEADLINE_EXCEEDED', `worker ${workerId} still works on ${task.kind}`)
    if (signal.aborted) throw late
    try {
      const subject = workerSubject(workerId, 'task')
      const reply = await unlessAborted(
        messaging.request(subject, task, { timeoutMs: REPLY_MS_MAX }),
        signal,
        late,
      )
      const { pending, ...done } = reply as unknown as TaskReply & { result: TaskResult }
      if (!pending) return done.result as Extract<TaskResult, { kind: K }>
      backoffMs = BACKOFF_MS[0]
      troubleSince = null
    } catch (error) {
      if (error === late || !(error instanceof SandtrailError) || !error.retryable) throw error
      troubleSince ??= performance.now()
      if (performance.now() - troubleSince >= patienceMs) throw error
      await pause(Math.min(backoffMs, patienceMs), signal)
      backoffMs = Math.min(backoffMs * 2, BACKOFF_MS[1])
    }
  }
}

/** A worker may take longer to answer than the caller has. */
async function unlessAborted<T>(work: Promise<T>, signal: AbortSignal, late: Error): Promise<T> {
  const { promise: aborted, reject } = Promise.withResolvers<never>()
  const stop = () => reject(late)
  signal.addEventListener('abort', stop)
  try {
    return await Promise.race([work, aborted])
  } finally {
    signal.removeEventListener('abort', stop)
  }
}

function pause(ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const timer = setTimeout(done, ms)
    function done() {
      clearTimeout(timer)
      signal.removeEventListener('abort', done)
      resolve()
    }
    signal.addEventListener('abort', done)
  })
}
