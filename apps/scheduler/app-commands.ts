/** `app.create`, `app.stop`, `app.heartbeat`, and the end of an ephemeral app whose client beats no more. */

import { type Command, handleCommand, newId, record } from '#libs/command-handling'
import type { Accepted, CommandBody } from '#libs/contract'
import {
  APP_HEARTBEAT_GRACE_MS,
  type AppId,
  type AppStopReason,
  appAggregate,
  decideApp,
  Rejected,
} from '#libs/domain'
import { type FiredTimer, setTimers } from '#libs/event-store'
import type { Scheduler } from './context.js'
import { appClaim, appNameClaims } from './names.js'
import { loadApp } from './resolve.js'
import { systemCommand } from './system-command.js'
import { heartbeatTimer } from './timers.js'

export async function createApp(
  scheduler: Scheduler,
  command: Command<CommandBody<'app.create'>>,
): Promise<Accepted> {
  const { body: spec } = command
  const appId = newId('ap')
  const { accepted } = await handleCommand(scheduler, command, async () => ({
    outcome: { appId },
    writes: [
      {
        stream: appId,
        expectedVersion: 0,
        events: record(decideApp(appAggregate.initial, { type: 'CreateApp', ...spec })),
      },
    ],
    claims: { take: [appClaim(appId), ...appNameClaims(spec, appId)] },
    ...(spec.kind === 'ephemeral' && { timers: { set: [heartbeatTimer(appId)] } }),
    onClaimTaken: () =>
      new Rejected(
        'NAME_TAKEN',
        `an app is called ${spec.name} already in the environment ${spec.environment}`,
        {
          hint: 'use that one, or stop it first',
        },
      ),
  }))
  return accepted
}

type Deciding = Pick<Scheduler, 'db' | 'onCommitted'>

export async function stopApp(
  scheduler: Deciding,
  command: Command<{ appId: string; reason: AppStopReason }>,
): Promise<Accepted> {
  const { tenant, body } = command
  const appId = body.appId as AppId
  const { accepted } = await handleCommand(scheduler, command, async () => {
    const { state, version } = await loadApp(scheduler.db, tenant, appId)
    const events = decideApp(state, { type: 'StopApp', reason: body.reason })
    const outcome = { appId }
    const writes = [{ stream: appId, expectedVersion: version, events: record(events) }]
    if (events.length === 0) return { outcome, writes }
    return {
      outcome,
      writes,
      claims: { release: [appClaim(appId), ...appNameClaims(state, appId)] },
      timers: { cancel: [heartbeatTimer(appId).key] },
    }
  })
  return accepted
}

/** A deployed app needs none, and takes them all the same. */
export async function beatApp(
  scheduler: Scheduler,
  command: Command<CommandBody<'app.heartbeat'>>,
): Promise<Accepted> {
  const { tenant, body } = command
  const appId = body.appId as AppId
  const { accepted } = await handleCommand(scheduler, command, async () => {
    const { state, version } = await loadApp(scheduler.db, tenant, appId)
    const events = decideApp(state, { type: 'BeatApp' })
    return {
      outcome: { appId },
      writes: [{ stream: appId, expectedVersion: version, events: record(events) }],
      ...(state.kind === 'ephemeral' && { timers: { set: [heartbeatTimer(appId)] } }),
    }
  })
  return accepted
}

/**
 * No beat came for the whole grace. While nobody could have heard one it does not count: then a whole new one begins.
 *
 * @param hearingForMs how long this process has been able to hear and to commit
 */
export async function endSilentApp(
  scheduler: Deciding,
  { tenant, commandId, payload }: FiredTimer,
  hearingForMs: number,
): Promise<void> {
  const appId = payload.appId as AppId
  const { state } = await loadApp(scheduler.db, tenant, appId)
  if (state.status === 'stopped') return
  if (hearingForMs < APP_HEARTBEAT_GRACE_MS) {
    await setTimers(scheduler.db, tenant, [heartbeatTimer(appId)])
    return
  }
  const body = { appId, reason: 'heartbeat-lost' as const }
  await stopApp(scheduler, systemCommand(tenant, 'app.stop', commandId, body))
}
