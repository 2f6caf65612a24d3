/** What Modal's SDKs and command line may call and nobody answers here; docs/modal-compatibility.md is made from it. */

import { Code } from '@connectrpc/connect'
import type { ConnectNodeAdapterOptions } from '@connectrpc/connect-node'

/** By reason. `Name*` stands for every call that begins so. */
export const NOT_SERVED: Record<string, string[]> = {
  'apps have no tags, versions or statistics here': [
    'AppGetInfo',
    'AppGetLifecycle',
    'AppGetTags',
    'AppSetTags',
    'AppGetTimeRangeStats',
  ],
  'output is read by exec and sandbox, not by app yet': ['AppCountLogs', 'AppFetchLogs'],
  'a tenant has one environment, main': ['EnvironmentCreate', 'EnvironmentUpdate', 'EnvironmentDelete'],
  'layers are not built and images are not published yet': [
    'ImageJoinStreaming',
    'ImagePublish',
    'ImageListTags',
    'ImageTagRevisions',
    'ImageNameDelete',
    'ImageBuildChainGet',
  ],
  'local files are not mounted or uploaded yet': ['Mount*', 'Blob*'],
  'volumes are mounted, committed and reloaded by sandboxes; their files are not read or written from outside yet':
    [
      'VolumeGetById',
      'VolumeHeartbeat',
      'VolumeList',
      'VolumeDelete',
      'VolumeRename',
      'VolumeCommit',
      'VolumeReload',
      'VolumeListFiles*',
      'VolumeGetFile*',
      'VolumePutFiles*',
      'VolumeRemoveFile*',
      'VolumeCopyFiles*',
    ],
  'network file systems are the predecessors of volumes': ['SharedVolume*'],
  'tunnels are not served yet': ['SandboxCreateConnectToken*'],
  'readiness probes are not run yet': ['SandboxWaitUntilReady'],
  'a sandbox has one container': ['SandboxContainerCreateV2', 'TaskContainer*'],
  'snapshots of memory, of directories and at the exit are not made yet': [
    'SandboxSnapshot*',
    'SandboxRestore*',
    'SandboxGetExitSnapshot*',
    'PersistentSandbox*',
    'TaskSnapshotDirectory',
    'TaskSnapshotMemory',
    'TaskMountDirectory',
    'TaskUnmountDirectory',
  ],
  'the network of a sandbox is chosen at its create': ['TaskSetNetworkAccess', 'TaskSetOutboundPolicy'],
  'use what is above: these are older forms of it': [
    'ContainerExec*',
    'ContainerFilesystemExec*',
    'SecretGetInfo',
  ],
  'tokens are made by `sandtrail token create`': ['TokenFlow*'],
  'usage is not metered yet': ['SandboxGetResourceUsage', 'SandboxGetStats*', 'SandboxGetTimeRangeStats'],
  'functions are not run here, only sandboxes': ['Function*', 'Class*', 'Queue*', 'Dict*'],
}

/** The SDKs know UNIMPLEMENTED; a status of HTTP says less. */
export const answerNotServed: NonNullable<ConnectNodeAdapterOptions['fallback']> = (request, response) => {
  const rpc = (request.url ?? '').split('/').at(-1)?.replace(/\W/g, '').slice(0, 64) ?? ''
  response.statusCode = 200
  response.setHeader('content-type', 'application/grpc')
  response.setHeader('grpc-status', String(Code.Unimplemented))
  response.setHeader('grpc-message', `${rpc} is not served: ${reasonFor(rpc)}`)
  response.end()
}

export function reasonFor(rpc: string): string {
  for (const [reason, rpcs] of Object.entries(NOT_SERVED)) {
    if (rpcs.some((each) => (each.endsWith('*') ? rpc.startsWith(each.slice(0, -1)) : rpc === each)))
      return reason
  }
  return 'Sandtrail knows no such call, see docs/modal-compatibility.md'
}
