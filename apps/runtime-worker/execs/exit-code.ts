/** What the caller of an exec gets as return code, and why. */

export interface ProcessExit {
  /** Exactly one of the two is set. */
  code: number | null
  signal: number | null
}

export interface Outcome {
  exitCode: number
  signal: number | null
  reason: 'exit' | 'signal' | 'timeout' | 'sandbox-ended'
}

const SIGKILL = 9

/** Own code; 128 + signal; 124 when our SIGKILL at the end of its time was what ended it. */
export function outcomeOf(
  exit: ProcessExit,
  context: { timedOut: boolean; sandboxEnding: boolean },
): Outcome {
  const { code, signal } = exit
  if (signal === null) return { exitCode: code ?? 0, signal, reason: 'exit' }
  if (signal === SIGKILL && context.timedOut) return { exitCode: 124, signal, reason: 'timeout' }
  const reason = signal === SIGKILL && context.sandboxEnding ? 'sandbox-ended' : 'signal'
  return { exitCode: 128 + signal, signal, reason }
}
