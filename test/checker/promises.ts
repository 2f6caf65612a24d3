/** The client's history against the log: what was promised is there, once, and what was refused is not (I-1, I-2, I-3, I-14). */

import type { ExecEvent } from '#libs/domain'
import { type Finding, finding } from './finding.js'
import type { HistoryEntry } from './history.js'
import type { Log, LoggedEvent } from './log.js'

type Of<K extends HistoryEntry['kind']> = Extract<HistoryEntry, { kind: K }>

export function judgePromises(history: readonly HistoryEntry[], log: Log): Finding[] {
  const events = new Map(log.events.map((event) => [`${event.stream} ${event.version}`, event]))
  const byCommand = Map.groupBy(log.events, ({ meta }) => meta.commandId)
  const stored = new Set(log.commands.map(({ commandId }) => commandId))
  return [
    ...judgeAccepted(of(history, 'accepted'), events, stored),
    ...of(history, 'refused').flatMap((entry) => judgeRefused(entry, byCommand.get(entry.commandId) ?? [])),
    ...judgeSeenExecs(of(history, 'exec-ended'), log.events),
    ...[...Map.groupBy(of(history, 'event'), ({ follower }) => follower).values()].flatMap((seen) =>
      judgeFollower(seen, log.events),
    ),
  ]
}

function of<K extends HistoryEntry['kind']>(history: readonly HistoryEntry[], kind: K): Of<K>[] {
  return history.filter((entry): entry is Of<K> => entry.kind === kind)
}

function judgeAccepted(
  accepted: readonly Of<'accepted'>[],
  events: ReadonlyMap<string, LoggedEvent>,
  stored: ReadonlySet<string>,
): Finding[] {
  const findings: Finding[] = []
  const first = new Map<string, Of<'accepted'>>()
  for (const entry of accepted) {
    const { commandId, stream, version } = entry
    const before = first.get(commandId)
    if (before === undefined) first.set(commandId, entry)
    else if (before.stream !== stream || before.version !== version) {
      findings.push(
        finding(
          'duplicated',
          'I-1',
          { stream, version },
          `${commandId} was accepted before as ${before.stream} version ${before.version}`,
        ),
      )
    }
    if (!stored.has(commandId))
      findings.push(
        finding('lost', 'I-1', { stream, version }, `the accepted command ${commandId} is not stored`),
      )
    else if (!events.has(`${stream} ${version}`)) {
      findings.push(
        finding(
          'lost',
          'I-1',
          { stream, version },
          `${commandId} was accepted as this event, which is not there`,
        ),
      )
    }
  }
  return findings
}

function judgeRefused({ commandId, code }: Of<'refused'>, own: readonly LoggedEvent[]): Finding[] {
  const effect = own.find(({ type }) => type !== 'CommandRejected')
  if (effect === undefined) return []
  const { stream, version, position } = effect
  return [
    finding(
      'phantom',
      'I-2',
      { stream, version, position },
      `the client was told ${code}, and ${commandId} has an effect`,
    ),
  ]
}

function judgeSeenExecs(seen: readonly Of<'exec-ended'>[], events: readonly LoggedEvent[]): Finding[] {
  const exits = new Map(
    events.filter(({ type }) => type === 'ExecExited').map((event) => [event.stream, event]),
  )
  return seen.flatMap(({ execId, exitCode, stdout, stderr }) => {
    const event = exits.get(execId)
    if (event === undefined)
      return [
        finding(
          'phantom',
          'I-3',
          { stream: execId },
          `the client saw it exit with ${exitCode}, the log did not`,
        ),
      ]
    const { version, position } = event
    const exit = event.data as unknown as Extract<ExecEvent, { type: 'ExecExited' }>['data']
    const at = { stream: execId, version, position }
    const findings: Finding[] = []
    if (exit.exitCode !== exitCode)
      findings.push(
        finding('phantom', 'I-3', at, `the client saw exit code ${exitCode}, the log has ${exit.exitCode}`),
      )
    for (const [name, told] of [
      ['stdout', stdout],
      ['stderr', stderr],
    ] as const) {
      const { bytes, sha256 } = exit[name]
      if (bytes === told.bytes && sha256 === told.sha256) continue
      const verdict = told.bytes < bytes ? 'lost' : 'phantom'
      findings.push(
        finding(
          verdict,
          'I-3',
          at,
          `the client read ${told.bytes} bytes of ${name} (${told.sha256}), the log has ${bytes} (${sha256})`,
        ),
      )
    }
    return findings
  })
}

/** From the first event that it saw to the last, a follower sees each once, in the order of positions. */
function judgeFollower(seen: readonly Of<'event'>[], events: readonly LoggedEvent[]): Finding[] {
  const findings: Finding[] = []
  const known = new Map(
    events.filter(({ position }) => position !== null).map((event) => [event.position!, event]),
  )
  const positions = new Set<number>()
  let last = 0
  for (const { position, stream, version, type } of seen) {
    const at = { stream, version, position }
    const event = known.get(position)
    if (event?.stream !== stream || event.version !== version || event.type !== type) {
      findings.push(
        finding('phantom', 'I-14', at, `a follower saw a ${type} that the ledger does not have there`),
      )
    } else if (positions.has(position))
      findings.push(finding('duplicated', 'I-14', at, 'a follower saw it twice'))
    else if (position < last)
      findings.push(finding('lost', 'I-14', at, `a follower that was at ${last} saw it only then`))
    positions.add(position)
    last = Math.max(last, position)
  }
  const first = seen[0]
  const tenant = first && known.get(first.position)?.tenant
  for (const [position, event] of known) {
    const due = first !== undefined && position > first.position && position < last && event.tenant === tenant
    if (due && !positions.has(position))
      findings.push(finding('lost', 'I-14', event, 'a follower never saw it'))
  }
  return findings
}
