/** The rules of a sandbox's life. Pure: the same state and command give the same events, in service and replay. */

import { Rejected } from '../errors.js'
import type { EndingReport, SandboxCommand } from './commands.js'
import type { SandboxEvent, StagedVolume } from './events.js'
import { START_DEADLINE_MS, STOP_DEADLINE_MS } from './spec.js'
import type { Sandbox } from './state.js'

type Command<T extends SandboxCommand['type']> = Extract<SandboxCommand, { type: T }>

/** Returns what happens, `[]` when it is already so. Throws `Rejected` when a rule forbids it. */
export function decideSandbox(state: Sandbox, command: SandboxCommand): SandboxEvent[] {
  switch (command.type) {
    case 'CreateSandbox':
      return create(state, command)
    case 'TerminateSandbox':
      return terminate(state, command)
    case 'TagSandbox':
      return tag(state, command)
    case 'NameSandbox':
      return name(state, command)
    case 'ReportStarted':
      return started(state, command)
    case 'ReportEnded':
      return ended(state, command)
    case 'ReportCleanedUp':
      return cleanedUp(state, command)
    case 'DeclareLost':
      return lost(state, command)
  }
}

function create(state: Sandbox, { spec, placement }: Command<'CreateSandbox'>): SandboxEvent[] {
  if (state.status !== 'absent') throw new Rejected('NAME_TAKEN', 'a sandbox with this id exists already')
  return [
    { type: 'SandboxCreated', typeVersion: 1, data: { spec } },
    { type: 'SandboxPlaced', typeVersion: 1, data: { ...placement, startDeadlineMs: START_DEADLINE_MS } },
  ]
}

function terminate(state: Sandbox, { reason }: Command<'TerminateSandbox'>): SandboxEvent[] {
  switch (state.status) {
    case 'absent':
    case 'created':
      throw new Rejected('SANDBOX_NOT_FOUND', 'no sandbox has this id')
    case 'stopping':
    case 'ended':
      return [] // Already so; asking twice is not an error.
    case 'running':
      // A deadline for the start that comes late must not stop what has started meanwhile.
      if (reason === 'start-deadline') return []
      return stop(reason)
    case 'starting':
      return stop(reason)
  }
}

function stop(reason: Command<'TerminateSandbox'>['reason']): SandboxEvent[] {
  return [{ type: 'SandboxStopRequested', typeVersion: 1, data: { reason, deadlineMs: STOP_DEADLINE_MS } }]
}

function tag(state: Sandbox, { tags }: Command<'TagSandbox'>): SandboxEvent[] {
  const { spec } = placed(state)
  const keys = Object.keys(tags)
  const isSame =
    keys.length === Object.keys(spec.tags).length && keys.every((key) => spec.tags[key] === tags[key])
  return isSame ? [] : [{ type: 'SandboxTagged', typeVersion: 1, data: { tags } }]
}

function name(state: Sandbox, command: Command<'NameSandbox'>): SandboxEvent[] {
  const { status, spec } = placed(state)
  if (status === 'ended') throw new Rejected('SANDBOX_GONE', 'the sandbox has ended, it cannot be named')
  if (spec.name === command.name) return []
  if (spec.name !== null) {
    throw new Rejected('ALREADY_NAMED', `the sandbox is called ${spec.name}, and a name is for life`)
  }
  return [{ type: 'SandboxNamed', typeVersion: 1, data: { name: command.name } }]
}

function started(state: Sandbox, report: Command<'ReportStarted'>): SandboxEvent[] {
  fence(state, report.epoch)
  const { workerId, epoch, volumes } = report
  switch (state.status) {
    case 'starting':
      return [{ type: 'SandboxStarted', typeVersion: 1, data: { workerId, epoch, volumes } }]
    case 'stopping':
      return state.wasRunning
        ? []
        : [{ type: 'SandboxStarted', typeVersion: 1, data: { workerId, epoch, volumes } }]
    default:
      return []
  }
}

function ended(state: Sandbox, report: Command<'ReportEnded'>): SandboxEvent[] {
  fence(state, report.epoch)
  if (state.status === 'ended') {
    if (state.by !== 'SandboxLost' || state.lateReport) return []
    const data = { ending: report.ending.kind, staged: report.staged }
    return [{ type: 'SandboxEndReportedLate', typeVersion: 1, data }]
  }
  return [terminalEvent(state, report.ending, report.staged)]
}

function terminalEvent(state: Sandbox, ending: EndingReport, staged: StagedVolume[]): SandboxEvent {
  switch (ending.kind) {
    case 'exited': {
      const { code, signal } = ending
      const exitCode = code ?? 128 + (signal ?? 0)
      return { type: 'SandboxFinished', typeVersion: 1, data: { exitCode, signal, staged } }
    }
    case 'stopped':
      if (state.status === 'stopping' && state.reason === 'start-deadline') {
        const message = `the sandbox had not started after ${START_DEADLINE_MS / 1000} s`
        const data = { exitCode: 125, step: 'start', code: 'DEADLINE_EXCEEDED', message, staged }
        return { type: 'SandboxFailed', typeVersion: 1, data }
      }
      return { type: 'SandboxTerminated', typeVersion: 1, data: { exitCode: 137, staged } }
    case 'timed-out':
      return {
        type: 'SandboxTimedOut',
        typeVersion: 1,
        data: { exitCode: 124, reason: ending.reason, staged },
      }
    case 'failed': {
      const { step, code, message } = ending
      const exitCode = code === 'OUT_OF_MEMORY' ? 137 : 125
      return { type: 'SandboxFailed', typeVersion: 1, data: { exitCode, step, code, message, staged } }
    }
  }
}

function cleanedUp(state: Sandbox, report: Command<'ReportCleanedUp'>): SandboxEvent[] {
  fence(state, report.epoch)
  if (state.status !== 'ended') {
    throw new Rejected('SANDBOX_NOT_RUNNING', 'a sandbox is cleaned up only after its end')
  }
  if (state.cleanedUp) return []
  return [{ type: 'SandboxCleanedUp', typeVersion: 1, data: { leftovers: report.leftovers } }]
}

function lost(state: Sandbox, { epoch, reason }: Command<'DeclareLost'>): SandboxEvent[] {
  fence(state, epoch)
  if (state.status === 'ended') return []
  return [{ type: 'SandboxLost', typeVersion: 1, data: { reason } }]
}

function fence(state: Sandbox, epoch: number): void {
  const current = placed(state)
  if (current.epoch !== epoch) {
    throw new Rejected('STALE_EPOCH', `epoch ${epoch} has ended, the sandbox is in epoch ${current.epoch}`)
  }
}

function placed(state: Sandbox) {
  if (state.status === 'absent' || state.status === 'created') {
    throw new Rejected('SANDBOX_NOT_FOUND', 'no sandbox has this id')
  }
  return state
}
