/**
 * What the work in hand belongs to. It goes along with every await, so each log line and each message of the work
 * carries it, those of libraries that know nothing of it too.
 */

import { AsyncLocalStorage } from 'node:async_hooks'

export interface Correlation {
  tenant?: string
  commandId?: string
  /** W3C trace context of the work: its own span while traces are kept, else the caller's. */
  traceparent?: string
}

const current = new AsyncLocalStorage<Correlation>()

/** Does `work` with these fields beside those that it has already. */
export function correlate<T>(fields: Correlation, work: () => T): T {
  return current.run({ ...current.getStore(), ...fields }, work)
}

export function correlation(): Correlation {
  return current.getStore() ?? {}
}

/** The fields of a log line; made anew for each. */
export function correlationFields(): object {
  const { tenant, commandId, traceparent } = correlation()
  return {
    ...(tenant === undefined ? {} : { tenant }),
    ...(commandId === undefined ? {} : { commandId }),
    // `00-<trace id>-<span id>-<flags>`
    ...(traceparent === undefined ? {} : { traceId: traceparent.slice(3, 35) }),
  }
}
