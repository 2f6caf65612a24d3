/** The scheduler's commands by name: one path for `req.`, where the caller waits for the answer, and `cmd.`. */

import type { z } from 'zod'
import { type Command, toCommand } from '#libs/command-handling'
import { type Accepted, COMMANDS } from '#libs/contract'
import type { MessageContext } from '#libs/messaging'
import type { Scheduler } from './context.js'
import { createSandbox } from './create-sandbox.js'
import { requestExec, signalExec } from './exec-commands.js'
import type { EndedExec } from './exec-waiters.js'
import { stopSandbox } from './terminate-sandbox.js'

interface Entry<S extends z.ZodType> {
  schema: S
  run(scheduler: Scheduler, command: Command<z.output<S>>): Promise<Accepted>
}
const entry = <S extends z.ZodType>(schema: S, run: Entry<S>['run']): Entry<z.ZodType> =>
  ({ schema, run }) as Entry<z.ZodType>

const ENTRIES = {
  'sandbox.create': entry(COMMANDS['sandbox.create'], createSandbox),
  'sandbox.exec': entry(COMMANDS['sandbox.exec'], requestExec),
  'sandbox.signal': entry(COMMANDS['sandbox.signal'], signalExec),
  'sandbox.terminate': entry(COMMANDS['sandbox.terminate'], (scheduler, command) =>
    stopSandbox(scheduler, command, 'terminate'),
  ),
}
export type SchedulerCommand = keyof typeof ENTRIES

export function isSchedulerCommand(name: string): name is SchedulerCommand {
  return Object.hasOwn(ENTRIES, name)
}

/**
 * Resolves after the commit, or with the first outcome for a re-send. For an exec with `waitMs`, `exec` tells how it
 * ended, or is null when it still runs.
 *
 * @throws Rejected, SandtrailError as docs/errors.md lists them
 */
export async function runCommand(
  scheduler: Scheduler,
  name: SchedulerCommand,
  body: unknown,
  context: Pick<MessageContext, 'tenant' | 'commandId' | 'expiresAt' | 'actor' | 'traceparent'>,
): Promise<Accepted & { exec?: Omit<EndedExec, 'spec'> | null }> {
  const startedMs = performance.now()
  const { schema, run } = ENTRIES[name]
  const command = toCommand(schema, name, context, body, scheduler.hashKey)
  const accepted = await run(scheduler, command)
  scheduler.log.info(
    {
      command: name,
      tenant: context.tenant,
      commandId: accepted.commandId,
      stream: accepted.stream,
      tookMs: Math.round(performance.now() - startedMs),
    },
    'command accepted',
  )
  const { waitMs } = command.body as { waitMs?: number }
  if (!waitMs || accepted.execId === undefined) return accepted
  const ended = await scheduler.waiters.wait(context.tenant, accepted.execId as `ex-${string}`, waitMs)
  if (ended === null) return { ...accepted, exec: null }
  const { spec: _, ...exec } = ended
  return { ...accepted, exec }
}
