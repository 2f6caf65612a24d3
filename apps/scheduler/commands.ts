/** The scheduler's commands by name. */

import { z } from 'zod'
import { CommandTable, type Envelope } from '#libs/command-handling'
import { type Accepted, COMMANDS, parseBody } from '#libs/contract'
import type { ExecId } from '#libs/domain'
import type { JsonObject, MessageContext } from '#libs/messaging'
import { beatApp, createApp, stopApp } from './app-commands.js'
import type { Scheduler } from './context.js'
import { createSandbox } from './create-sandbox.js'
import { requestExec, signalExec } from './exec-commands.js'
import type { EndedExec } from './exec-waiters.js'
import { nameSandbox, tagSandbox } from './label-sandbox.js'
import {
  createTenant,
  createToken,
  limitTenant,
  removeTenant,
  resumeTenant,
  revokeToken,
  suspendTenant,
} from './tenants.js'
import { stopSandbox } from './terminate-sandbox.js'
import { cordonWorker, drainWorker, uncordonWorker } from './workers.js'

export const commands = new CommandTable<Scheduler>()
  .add('sandbox.create', COMMANDS['sandbox.create'], createSandbox)
  .add('sandbox.exec', COMMANDS['sandbox.exec'], requestExec)
  .add('sandbox.signal', COMMANDS['sandbox.signal'], signalExec)
  .add('sandbox.terminate', COMMANDS['sandbox.terminate'], (scheduler, command) =>
    stopSandbox(scheduler, command, 'terminate'),
  )
  .add('sandbox.tag', COMMANDS['sandbox.tag'], tagSandbox)
  .add('sandbox.name', COMMANDS['sandbox.name'], nameSandbox)
  .add('app.create', COMMANDS['app.create'], createApp)
  .add('app.stop', COMMANDS['app.stop'], stopApp)
  .add('app.heartbeat', COMMANDS['app.heartbeat'], beatApp)
  .add('worker.cordon', COMMANDS['worker.cordon'], cordonWorker)
  .add('worker.uncordon', COMMANDS['worker.uncordon'], uncordonWorker)
  .add('worker.drain', COMMANDS['worker.drain'], drainWorker)
  .add('tenant.create', COMMANDS['tenant.create'], createTenant)
  .add('tenant.limit', COMMANDS['tenant.limit'], limitTenant)
  .add('tenant.suspend', COMMANDS['tenant.suspend'], suspendTenant)
  .add('tenant.resume', COMMANDS['tenant.resume'], resumeTenant)
  .add('tenant.remove', COMMANDS['tenant.remove'], removeTenant)
  .add('token.create', COMMANDS['token.create'], createToken)
  .add('token.revoke', COMMANDS['token.revoke'], revokeToken)

const wait = z.object({ waitMs: COMMANDS['sandbox.exec'].shape.waitMs })

/** How long somebody waits is no part of the command: a re-send with another wait is a re-send. */
export function withoutWait(body: JsonObject): JsonObject {
  parseBody(wait, body)
  return { ...body, waitMs: 0 }
}

/** `sandbox.exec` with `waitMs`: `exec` tells how it ended, or is null when it still runs by then. */
export async function runExec(
  scheduler: Scheduler,
  body: JsonObject,
  context: Envelope & Pick<MessageContext, 'release'>,
): Promise<Accepted & { exec?: Omit<EndedExec, 'spec'> | null }> {
  const { waitMs } = parseBody(wait, body)
  const accepted = await commands.run(scheduler, 'sandbox.exec', withoutWait(body), context)
  if (waitMs === 0) return accepted
  context.release?.()
  const ended = await scheduler.waiters.wait(context.tenant, accepted.execId as ExecId, waitMs)
  if (ended === null) return { ...accepted, exec: null }
  const { spec: _, ...exec } = ended
  return { ...accepted, exec }
}
