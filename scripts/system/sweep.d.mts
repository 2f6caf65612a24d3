/** An interrupted process takes its private systems along, then ends as the signal wants. */
export function destroyOwnedOnSignals(): void
