/**
 * What an SDK asks a sandbox to be, as the body of our own `sandbox.create`. An option that cannot be honoured is
 * refused by name; docs/modal-compatibility.md is checked against `OPTIONS`.
 */

import type { CommandBody } from '#libs/contract'
import { Rejected } from '#libs/domain'
import type { JsonObject } from '#libs/event-store'
import { unimplemented } from './errors.js'
import {
  NetworkAccess_NetworkAccessType as NetworkAccessType,
  type PTYInfo,
  type Sandbox,
} from './gen/client_pb.js'

type Definition = Omit<Sandbox, '$typeName' | '$unknown'>
type Verdict =
  | 'served'
  /** Acts on nothing that a sandbox here has; accepting it promises nothing. */
  | 'accepted'
  /** Refused when it is asked for. `why` stands in the error. */
  | { refused: string; asked: (definition: Definition) => boolean }

const MIB = 1024 ** 2

const whenSet = (field: keyof Definition) => (definition: Definition) => isSet(definition[field])

/** Every option that the SDKs send. */
export const OPTIONS: Record<keyof Definition, Verdict> = {
  entrypointArgs: 'served',
  imageId: 'served',
  secretIds: 'served',
  resources: 'served',
  timeoutSecs: 'served',
  idleTimeoutSecs: 'served',
  workdir: 'served',
  blockNetwork: 'served',
  networkAccess: 'served',
  volumeMounts: 'served',
  name: 'served',
  environmentVariables: 'served',
  schedulerPlacement: 'served',
  cloudProviderStr: 'served',
  runtime: 'served',
  experimentalOptions: 'served',
  experimentalOptionsV2: 'served',
  ptyInfo: 'served',
  verbose: 'accepted',
  runtimeDebug: 'accepted',
  cloudProvider: 'accepted',
  workerId: 'accepted',
  preloadPathPrefixes: 'accepted',
  enableSnapshot: {
    refused: 'memory snapshots are not made yet',
    asked: (definition) => definition.enableSnapshot,
  },
  mountIds: { refused: 'local files are not mounted yet; copy them in', asked: whenSet('mountIds') },
  nfsMounts: {
    refused: 'network file systems are not served yet; use a volume',
    asked: whenSet('nfsMounts'),
  },
  cloudBucketMounts: { refused: 'cloud buckets are not mounted', asked: whenSet('cloudBucketMounts') },
  openPorts: {
    refused: 'tunnels are not served yet',
    asked: ({ openPorts }) => (openPorts?.ports.length ?? 0) > 0,
  },
  i6pnEnabled: { refused: 'there is no network between sandboxes', asked: whenSet('i6pnEnabled') },
  proxyId: { refused: 'there are no proxies', asked: whenSet('proxyId') },
  customDomain: { refused: 'tunnels are not served yet', asked: whenSet('customDomain') },
  includeOidcIdentityToken: {
    refused: 'identity tokens are not issued',
    asked: whenSet('includeOidcIdentityToken'),
  },
  readinessProbe: { refused: 'readiness probes are not run yet', asked: whenSet('readinessProbe') },
  inboundCidrAllowlist: { refused: 'tunnels are not served yet', asked: whenSet('inboundCidrAllowlist') },
  experimentalOutboundPolicy: {
    refused: 'outbound policies are not enforced',
    asked: whenSet('experimentalOutboundPolicy'),
  },
  includeX509Svid: { refused: 'identity certificates are not issued', asked: whenSet('includeX509Svid') },
  outboundPolicy: { refused: 'outbound policies are not enforced', asked: whenSet('outboundPolicy') },
}

/** Where the hosted service runs; a self-hosted one is wherever its hosts are, so any of them is taken. */
const CLOUDS = new Set(['', 'auto', 'aws', 'gcp', 'oci'])
const REGION = /^(us|eu|uk|ap|ca|jp|me|sa|af|mx|au|il)(-[a-z]+-?\d?)?$/

/** @throws Rejected UNIMPLEMENTED, INVALID_ARGUMENT */
export function toCreateBody(
  definition: Definition,
  rest: { appId: string; env: Record<string, string>; tags: Record<string, string> },
): Partial<CommandBody<'sandbox.create'>> & JsonObject {
  refuseWhatIsNotServed(definition)
  const { entrypointArgs, imageId, workdir, resources, timeoutSecs, idleTimeoutSecs, name } = definition
  return {
    image: imageId === '' ? null : imageId,
    command: entrypointArgs.length === 0 ? null : entrypointArgs,
    workdir: workdir ?? null,
    env: rest.env,
    cpuMillis: positive(resources?.milliCpu),
    cpuLimitMillis: positive(resources?.milliCpuMax),
    memoryBytes: scaled(memoryMib(resources), MIB),
    diskBytes: null,
    diskLimitBytes: scaled(resources?.ephemeralDiskMb, MIB),
    timeoutMs: scaled(timeoutSecs, 1_000),
    idleTimeoutMs: scaled(idleTimeoutSecs, 1_000),
    network: networkOf(definition),
    volumes: definition.volumeMounts.map(({ volumeId, mountPath, readOnly, subPath }) => {
      if (subPath !== undefined && subPath !== '') throw unimplemented('sub_path', 'mount the whole volume')
      return { volume: volumeId, path: mountPath, readOnly, version: null }
    }),
    // Go sends an empty name for none.
    name: name === undefined || name === '' ? null : name,
    tags: rest.tags,
    runtime: runtimeOf(definition),
    appId: rest.appId,
    stdin: entrypointArgs.length === 0 ? 'closed' : 'open',
    pty: entrypointArgs.length === 0 ? null : terminalOf(definition.ptyInfo),
  }
}

function refuseWhatIsNotServed(definition: Definition): void {
  for (const [option, verdict] of Object.entries(OPTIONS)) {
    if (typeof verdict === 'object' && verdict.asked(definition)) {
      throw unimplemented(snakeCase(option), verdict.refused)
    }
  }
  const { cloudProviderStr, schedulerPlacement, resources } = definition
  if (!CLOUDS.has(cloudProviderStr.toLowerCase())) {
    throw new Rejected(
      'INVALID_ARGUMENT',
      `there is no cloud ${JSON.stringify(cloudProviderStr.slice(0, 40))}`,
    )
  }
  const region = schedulerPlacement?.regions.find((each) => !REGION.test(each))
  if (region !== undefined) {
    throw new Rejected('INVALID_ARGUMENT', `there is no region ${JSON.stringify(region.slice(0, 40))}`)
  }
  if (resources?.gpuConfig !== undefined && (resources.gpuConfig.count > 0 || resources.gpuConfig.gpuType)) {
    throw unimplemented('gpu', 'no worker has one')
  }
}

/** The limit is what a sandbox may use here: memory is never overcommitted. */
function memoryMib(resources: Definition['resources']): number | undefined {
  return Math.max(resources?.memoryMb ?? 0, resources?.memoryMbMax ?? 0)
}

/** 0 rows: the client has no terminal itself. null without one, or when there is nothing that would have it. */
export function terminalOf(pty: PTYInfo | undefined): { rows: number; cols: number } | null {
  return pty?.enabled ? { rows: pty.winszRows || 24, cols: pty.winszCols || 80 } : null
}

function networkOf({ blockNetwork, networkAccess }: Definition): 'none' | 'open' {
  if (blockNetwork || networkAccess?.networkAccessType === NetworkAccessType.BLOCKED) return 'none'
  if (networkAccess?.networkAccessType === NetworkAccessType.ALLOWLIST) {
    throw unimplemented('an allow-list of CIDRs or domains', 'block the network, or leave it open')
  }
  return 'open'
}

function runtimeOf({ runtime, experimentalOptions, experimentalOptionsV2 }: Definition): 'gvisor' | 'vm' {
  const wantsVm = isYes(experimentalOptionsV2.vm_runtime) || experimentalOptions.vm_runtime === true
  for (const option of ['enable_docker', 'enable_exit_snapshot']) {
    if (isYes(experimentalOptionsV2[option]) || experimentalOptions[option] === true) {
      throw unimplemented(option, 'it is not built yet')
    }
  }
  if (runtime === undefined || runtime === '') return wantsVm ? 'vm' : 'gvisor'
  if (runtime === 'gvisor' || runtime === 'vm') return runtime
  throw new Rejected('INVALID_ARGUMENT', `there is no runtime ${JSON.stringify(runtime.slice(0, 40))}`, {
    hint: 'gvisor or vm',
  })
}

/** Python writes "True", JavaScript and Go "true", the command line what was typed. */
function isYes(value: string | undefined): boolean {
  return value !== undefined && ['true', '1'].includes(value.toLowerCase())
}

function isSet(value: unknown): boolean {
  if (Array.isArray(value)) return value.length > 0
  return value !== undefined && value !== false && value !== '' && value !== 0
}

/** An SDK says 0 where it says nothing. */
function positive(value: number | undefined): number | null {
  return value === undefined || value === 0 ? null : value
}

function scaled(value: number | undefined, factor: number): number | null {
  const given = positive(value)
  return given === null ? null : given * factor
}

/** As the SDKs' own option is called. */
export function snakeCase(text: string): string {
  return text.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`)
}
