/** Ctrl-C goes to the process inside; a second one soon after lets go of it, and it runs on. */

/** Within which a second one means "let go". */
const TWICE_MS = 2_000

export interface SignalHandlers {
  /** The first: to be handed on. */
  forward(signal: number): void
  /** The second. */
  letGo(): void
}

/** Returns the undoing. */
export function onInterrupts({ forward, letGo }: SignalHandlers): () => void {
  let lastMs = Number.NEGATIVE_INFINITY
  const handler = (number: number) => () => {
    const now = performance.now()
    if (now - lastMs < TWICE_MS) {
      letGo()
      return
    }
    lastMs = now
    forward(number)
  }
  const interrupt = handler(2)
  const terminate = handler(15)
  process.on('SIGINT', interrupt)
  process.on('SIGTERM', terminate)
  return () => {
    process.off('SIGINT', interrupt)
    process.off('SIGTERM', terminate)
  }
}
