/** What an event changed, in a few words for a table. Pure; the whole is in `-o json`. */

import type { Event } from './types.js'

type Data = Record<string, unknown>

const SUMMARIES: Record<string, (data: Data) => string> = {
  SandboxCreated: ({ spec }) => {
    const { image, command } = spec as { image: { ref: string }; command: string[] | null }
    return command === null ? image.ref : `${image.ref}: ${command.join(' ')}`
  },
  SandboxPlaced: (data) => `on ${data.workerId}, epoch ${data.epoch}`,
  SandboxStarted: (data) => volumesOf(data),
  SandboxTagged: ({ tags }) =>
    Object.entries(tags as Record<string, string>)
      .map(([key, value]) => `${key}=${value}`)
      .join(', '),
  SandboxNamed: (data) => String(data.name),
  SandboxStopRequested: (data) => String(data.reason),
  SandboxFinished: (data) => (data.signal === null ? `exit code ${data.exitCode}` : `signal ${data.signal}`),
  SandboxTerminated: (data) => stagedOf(data),
  SandboxTimedOut: (data) => `${data.reason}${stagedOf(data)}`,
  SandboxFailed: (data) => `${data.step}: ${data.code}: ${data.message}`,
  SandboxLost: (data) => String(data.reason),
  SandboxEndReportedLate: (data) => String(data.ending),
  SandboxCleanedUp: ({ leftovers }) => {
    const left = leftovers as string[]
    return left.length === 0 ? 'nothing left' : `left: ${left.join(', ')}`
  },
  ExecRequested: ({ spec }) => (spec as { argv: string[] }).argv.join(' '),
  ExecStarted: (data) => `pid ${data.pid}`,
  ExecSignalRequested: (data) => `signal ${data.signal}`,
  ExecExited: (data) => `exit code ${data.exitCode}${data.reason === 'exit' ? '' : `, ${data.reason}`}`,
  ExecFailed: (data) => `${data.code}: ${data.message}`,
  ExecLost: (data) => String(data.reason),
  ImageImportRequested: (data) => String(data.name),
  ImageReplicated: (data) => `in the pool of ${data.workerId}`,
  ImageReady: (data) => String(data.digest),
  ImageFailed: (data) => `${data.code}: ${data.message}`,
  ImageCreatedFromSnapshot: ({ source }) => `of ${(source as { sandboxId: string }).sandboxId}`,
  SnapshotRequested: (data) => `of ${data.sandboxId}`,
  SnapshotCompleted: (data) => `${data.imageId} in ${data.tookMs} ms`,
  SnapshotFailed: (data) => `${data.code}: ${data.message}`,
  WorkerCordoned: (data) => String(data.reason ?? ''),
  WorkerDrainRequested: ({ reason, timeoutMs }) =>
    `${timeoutMs === null ? 'no limit' : `within ${Number(timeoutMs) / 1000} s`}${reason === null ? '' : `: ${reason}`}`,
  TenantCreated: ({ limits }) => limitsOf(limits),
  TenantLimitsChanged: ({ limits }) => limitsOf(limits),
  TenantSuspended: ({ reason, sandboxes }) =>
    `${sandboxes === 'end' ? 'ends what runs' : 'keeps what runs'}${reason === null ? '' : `: ${reason}`}`,
  TenantRemovalRequested: ({ reason, force }) =>
    `${force ? 'by force' : 'has nothing'}${reason === null ? '' : `: ${reason}`}`,
  TokenCreated: (data) => `${data.tokenId} ${data.name}${data.operator ? ', an operator’s' : ''}`,
  TokenRevoked: (data) => String(data.tokenId),
  VolumeCreated: (data) => String(data.name),
  VolumeCommitRequested: (data) => `by ${data.sandboxId}`,
  VolumeCommitted: (data) => {
    const overwritten = (data.overwritten as string[]).length
    return `version ${data.version}, ${data.changedPaths} paths${overwritten === 0 ? '' : `, ${overwritten} overwritten`}`
  },
  VolumeCommitFailed: (data) => `${data.code}: ${data.message}`,
  VolumeReloaded: (data) => `version ${data.fromVersion} to ${data.toVersion}`,
  AppCreated: (data) => `${data.kind}, ${data.environment}/${data.name ?? '-'}`,
  AppStopped: (data) => String(data.reason),
  CommandRejected: (data) => `${data.verb}: ${data.code}: ${data.message}`,
}

export function summarize({ type, data }: Pick<Event, 'type' | 'data'>): string {
  try {
    return SUMMARIES[type]?.(data) ?? ''
  } catch {
    // An event of another version than this client knows: the type alone still tells something.
    return ''
  }
}

function limitsOf(limits: unknown): string {
  const all = Object.entries(limits as Record<string, number | null>)
  return all.map(([name, limit]) => `${name} ${limit ?? 'unlimited'}`).join(', ')
}

function volumesOf(data: Data): string {
  const volumes = data.volumes as { volumeId: string; version: number }[]
  return volumes.map(({ volumeId, version }) => `${volumeId}@${version}`).join(', ')
}

function stagedOf(data: Data): string {
  const staged = data.staged as unknown[]
  return staged.length === 0 ? '' : `${staged.length} volume(s) staged`
}
