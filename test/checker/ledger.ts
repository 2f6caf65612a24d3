/** The event store's own `verify` in the checker's words: hashes, chains, checkpoints, and the tables that follow (I-6, I-8). */

import { type ProblemKind, type VerifyOptions, verifyTrail } from '#libs/event-store'
import { type Finding, finding, type Verdict } from './finding.js'
import type { Log } from './log.js'

const VERDICTS: Readonly<Record<ProblemKind, [Verdict, string]>> = {
  'event-altered': ['phantom', 'I-6'],
  'event-rewritten': ['phantom', 'I-6'],
  'event-removed': ['lost', 'I-6'],
  'event-inserted': ['phantom', 'I-6'],
  'chain-broken': ['phantom', 'I-6'],
  'ledger-altered': ['phantom', 'I-6'],
  'ledger-removed': ['lost', 'I-6'],
  'trail-altered': ['lost', 'I-6'],
  'checkpoint-invalid': ['phantom', 'I-6'],
  'state-altered': ['phantom', 'I-8'],
}

export async function judgeTrail(options: VerifyOptions): Promise<Finding[]> {
  const { problems } = await verifyTrail(options)
  return problems.map(({ kind, message, ...at }) => finding(...VERDICTS[kind], at, `${kind}: ${message}`))
}

/** Positions are 1..n, and with `drained` every event has one (I-14). */
export function judgePositions({ positions, events }: Log, drained: boolean): Finding[] {
  const findings: Finding[] = []
  let next = 1
  for (const position of positions) {
    for (; next < position; next++)
      findings.push(finding('lost', 'I-14', { position: next }, 'the ledger has no event at this position'))
    next = position + 1
  }
  if (!drained) return findings
  const unplaced = events.filter(({ position }) => position === null)
  return [...findings, ...unplaced.map((event) => finding('stuck', 'I-14', event, 'it has no position'))]
}
