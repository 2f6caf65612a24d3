/** `sandbox.exec` and `sandbox.signal`. An exec of a sandbox that still starts waits at the worker. */

import { type Command, handleCommand, newId, record } from '#libs/command-handling'
import type { Accepted, CommandBody } from '#libs/contract'
import { decideExec, type ExecId, type ExecSpec, execAggregate, Rejected, type SandboxId } from '#libs/domain'
import { derivedCommandId } from '#libs/event-store'
import type { Scheduler } from './context.js'
import { checkOrderFits, dispatch, execOrder } from './orders.js'
import { loadExec, loadSandbox, type Placed } from './resolve.js'
import { sealForLog } from './secrets.js'
import { execStartTimer, signalTimer } from './timers.js'

export async function requestExec(
  scheduler: Scheduler,
  command: Command<CommandBody<'sandbox.exec'>>,
): Promise<Accepted> {
  const { tenant, body } = command
  const sandboxId = body.sandboxId as SandboxId
  const execId = newId('ex')
  let accepting: { sandbox: Placed; spec: ExecSpec } | undefined
  const { accepted, isNew } = await handleCommand(scheduler, command, async () => {
    const { state: sandbox } = await loadSandbox(scheduler.db, tenant, sandboxId)
    if (sandbox.status === 'ended' || sandbox.status === 'stopping') {
      throw new Rejected(
        'SANDBOX_GONE',
        `sandbox ${sandboxId} ${sandbox.status === 'ended' ? 'has ended' : 'is ending'}`,
        {
          hint: `\`sandtrail history ${sandboxId}\` tells why`,
        },
      )
    }
    const spec = toExecSpec(body, sandboxId, sandbox)
    const secrets = secretsOf(body)
    checkOrderFits(spec, secrets, sandbox.spec.envNames.length > 0)
    const events = decideExec(execAggregate.initial, { type: 'RequestExec', spec })
    const sealed = await sealForLog(scheduler, tenant, execId, secrets)
    accepting = { sandbox, spec }
    return {
      outcome: { execId, sandboxId },
      writes: [{ stream: execId, expectedVersion: 0, events: record(events, sealed) }],
      live: { action: 'require', sandboxId, workerId: sandbox.workerId, epoch: sandbox.epoch, open: true },
      timers: { set: [execStartTimer(execId)] },
      execSlot: { action: 'take', execId },
    }
  })
  if (isNew && accepting) {
    const { sandbox, spec } = accepting
    dispatch(scheduler, sandbox.workerId, execOrder(scheduler, tenant, sandbox, execId, spec))
  }
  return accepted
}

function toExecSpec(
  body: CommandBody<'sandbox.exec'>,
  sandboxId: SandboxId,
  { epoch, spec }: Placed,
): ExecSpec {
  if ((body.stdin === 'inline') !== (body.stdinBase64 !== null)) {
    throw new Rejected('INVALID_ARGUMENT', 'stdinBase64: goes with stdin "inline", and only with it')
  }
  return {
    sandboxId,
    epoch,
    argv: body.argv,
    workdir: body.workdir ?? spec.workdir,
    user: body.user ?? spec.user,
    envNames: Object.keys(body.env).sort(),
    pty: body.pty,
    stdin: body.stdin,
    timeoutMs: body.timeoutMs,
  }
}

function secretsOf({ env, stdinBase64 }: CommandBody<'sandbox.exec'>) {
  return stdinBase64 === null ? { env } : { env, stdin: stdinBase64 }
}

export async function signalExec(
  scheduler: Scheduler,
  command: Command<CommandBody<'sandbox.signal'>>,
): Promise<Accepted> {
  const { tenant, body } = command
  const execId = body.execId as ExecId
  const signalId = derivedCommandId('signal', tenant, command.ref.id)
  let target: { sandbox: Placed; sandboxId: SandboxId } | undefined
  const { accepted, isNew } = await handleCommand(scheduler, command, async () => {
    const { state, version, sandboxId } = await loadExec(scheduler.db, tenant, execId)
    const events = decideExec(state, { type: 'SignalExec', signal: body.signal })
    target = { sandbox: (await loadSandbox(scheduler.db, tenant, sandboxId)).state, sandboxId }
    return {
      outcome: { execId, sandboxId },
      writes: [{ stream: execId, expectedVersion: version, events: record(events) }],
      live: { action: 'require', sandboxId, open: false },
      // Behind the fast path: a signal that did not get through is sent again, its id makes it one.
      timers: { set: [signalTimer(execId, body.signal, signalId)] },
    }
  })
  if (isNew && target) {
    const { sandbox, sandboxId } = target
    const order = {
      kind: 'signal' as const,
      tenant,
      sandboxId,
      epoch: sandbox.epoch,
      execId,
      signal: body.signal,
      signalId,
    }
    dispatch(scheduler, sandbox.workerId, Promise.resolve(order))
  }
  return accepted
}
