/**
 * Counters and histograms of this process. They live beside the code that counts, in one registry per process, as is
 * the custom of the client library; what is read at each scrape (gauges) belongs to a service's `Operations`.
 *
 * Labels are words of ours (a command's name, an outcome, a step), never ids or names of tenants: a series each would
 * be without end.
 */

import { Counter, Histogram, Registry } from 'prom-client'

export const processMetrics = new Registry()

/** Of a decision (one transaction) to a wait for a start: seconds. */
const SECONDS = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30]

export function counter<L extends string>(name: string, help: string, labelNames: readonly L[]): Counter<L> {
  return new Counter({ name, help, labelNames: [...labelNames], registers: [processMetrics] })
}

/** Observes seconds. */
export function durations<L extends string>(
  name: string,
  help: string,
  labelNames: readonly L[],
): Histogram<L> {
  return new Histogram({
    name,
    help,
    labelNames: [...labelNames],
    buckets: SECONDS,
    registers: [processMetrics],
  })
}
