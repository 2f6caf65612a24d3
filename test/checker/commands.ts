/** Each stored command against what it wrote: an outcome without its event, an event without its command (I-2). */

import { type Finding, finding } from './finding.js'
import type { Log, LoggedEvent, StoredCommand } from './log.js'

const KEPT_MS = 24 * 3_600_000

export function judgeCommands({ events, commands }: Log): Finding[] {
  const written = Map.groupBy(events, ({ tenant, meta }) => keyOf(tenant, meta.commandId))
  const stored = new Map(commands.map((command) => [keyOf(command.tenant, command.commandId), command]))
  const standing = new Set(events.map(({ stream, version }) => `${stream} ${version}`))
  return [
    ...commands.flatMap((command) => judgeOutcome(command, standing)),
    ...[...written].flatMap(([key, own]) => judgeWritten(own, stored.get(key))),
  ]
}

const keyOf = (tenant: string, commandId: string) => `${tenant} ${commandId}`

/** A fact's command has no stream in its outcome: its event is what counts. */
function judgeOutcome(
  { commandId, verb, rejected, outcome }: StoredCommand,
  standing: Set<string>,
): Finding[] {
  const { stream, version } = outcome as { stream?: string; version?: number }
  if (rejected || stream === undefined || version === undefined) return []
  // Version 0: nothing had to be done, and the stream never began (uncordon of a worker that never was cordoned).
  if (version === 0 || standing.has(`${stream} ${version}`)) return []
  return [
    finding(
      'lost',
      'I-1',
      { stream, version },
      `${verb} ${commandId} was accepted as this event, which is not there`,
    ),
  ]
}

function judgeWritten(own: readonly LoggedEvent[], command: StoredCommand | undefined): Finding[] {
  const [first] = own
  if (first === undefined) return []
  const { stream, version, position, meta } = first
  const at = { stream, version, position }
  if (command === undefined) {
    // Outcomes of commands go a day after their expiry (purgeCommands).
    if (Date.now() - first.at.getTime() > KEPT_MS) return []
    return [
      finding('phantom', 'I-2', at, `no command ${meta.commandId} was ever stored, and it has an effect`),
    ]
  }
  const findings: Finding[] = []
  const effect = own.find(({ type }) => type !== 'CommandRejected')
  if (command.rejected && effect) {
    const { stream, version, position } = effect
    findings.push(
      finding(
        'phantom',
        'I-2',
        { stream, version, position },
        `${command.verb} ${command.commandId} was refused, and it has an effect`,
      ),
    )
  }
  // One command begins at most one stream of a kind: two sandboxes of one create are one too many.
  for (const [type, begun] of Map.groupBy(
    own.filter((event) => event.version === 1),
    (event) => event.type,
  )) {
    for (const { stream, version, position } of begun.slice(1)) {
      findings.push(
        finding(
          'duplicated',
          'I-1',
          { stream, version, position },
          `${command.commandId} has a second ${type}`,
        ),
      )
    }
  }
  return findings
}
