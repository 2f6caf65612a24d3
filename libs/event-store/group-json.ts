/** What a group of commands writes, as the database takes it: see `write_commands` in migrations/330-append.ts. */

import type { CommandRow } from './statements/commands.js'
import type { Claim } from './types.js'
import type { ChainedEvent, Prepared } from './write.js'

/** JSON text; a list is absent where there is nothing of it. */
export function groupJson(group: Prepared[]): string {
  const requests = group.map(({ request }) => request)
  const lives = requests.flatMap(({ live }) => live ?? [])
  const reservations = requests.flatMap(({ reservation }) => reservation ?? [])
  const slots = requests.flatMap(({ execSlot }) => execSlot ?? [])
  const execsOf = (action: 'take' | 'release') =>
    slots.flatMap((slot) => (slot.action === action ? slot.execId : [])).sort()
  const claims = (which: 'take' | 'release' | 'require') =>
    inOrder(
      requests.flatMap((request) => request.claims?.[which] ?? []),
      rankOfClaim,
    )
  const timers = requests.flatMap((request) => request.timers ?? [])
  const lists = {
    require: lives.filter(({ action }) => action === 'require'),
    live: inOrder(
      lives.filter(({ action }) => action !== 'require'),
      ({ sandboxId }) => sandboxId,
    ),
    release: claims('release'),
    take: claims('take'),
    needed: claims('require'),
    cancel: timers.flatMap(({ cancel = [] }) => cancel).sort(),
    consume: inOrder(
      timers.flatMap(({ consume = [] }) => consume),
      ({ key }) => key,
    ).map(({ key, generation }) => ({ key, generation: String(generation) })),
    set: inOrder(
      timers.flatMap(({ set = [] }) => set),
      ({ key }) => key,
    ),
    giveBack: reservations.flatMap((each) => (each.action === 'release' ? each.sandboxId : [])).sort(),
    reserve: reservations.flatMap((each) =>
      each.action === 'take' ? { sandboxId: each.sandboxId, workerId: each.workerId, ...each.resources } : [],
    ),
    ended: execsOf('release'),
    started: execsOf('take'),
  }
  const rows = inOrder(
    group.map(({ row }) => row),
    ({ command }) => command.id,
  )
  const events = inOrder(
    group.flatMap((each) => each.events),
    ({ stream }) => stream,
  )
  const members = [
    `"tenant":${JSON.stringify(requests[0]!.tenant)}`,
    `"commands":[${rows.map(commandJson).join()}]`,
    `"events":[${events.map(eventJson).join()}]`,
  ]
  for (const [name, list] of Object.entries(lists)) {
    if (list.length > 0) members.push(`"${name}":${JSON.stringify(list)}`)
  }
  const unmounted = requests[0]!.unmounted
  if (unmounted) members.push(`"unmounted":${JSON.stringify(unmounted.volumeId)}`)
  return `{${members.join()}}`
}

const rankOfClaim = ({ kind, key }: Claim) => JSON.stringify([kind, key])

function commandJson({ command, outcome, rejected, attempt }: CommandRow): string {
  const row = {
    id: command.id,
    verb: command.verb,
    hash: command.hash.toString('hex'),
    rejected,
    attempt,
    expiresAt: command.expiresAt,
  }
  return `{"outcome":${outcome},${JSON.stringify(row).slice(1)}`
}

function eventJson({ text, hash }: ChainedEvent): string {
  return `{"hash":"${hash.toString('hex')}",${text.slice(1)}`
}

/** What has the same key stays in its order, as the events of a stream. */
export function inOrder<T>(items: T[], keyOf: (item: T) => string): T[] {
  if (items.length < 2) return items
  return [...items].sort((a, b) => {
    const [left, right] = [keyOf(a), keyOf(b)]
    return left < right ? -1 : left > right ? 1 : 0
  })
}
