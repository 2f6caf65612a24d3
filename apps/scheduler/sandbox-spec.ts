/** From a caller's `sandbox.create` to the spec that is recorded: defaults filled in, references resolved. */

import type { CommandBody } from '#libs/contract'
import {
  type AppId,
  type ImageId,
  Rejected,
  SANDBOX_LIMITS,
  type SandboxSpec,
  type VolumeMount,
} from '#libs/domain'

/** Paths of the sandbox that are made by the runtime: a volume there would hide them. */
const RESERVED = ['/proc', '/sys', '/dev', '/__modal', '/.sandtrail']

/** @throws Rejected for what the schema alone cannot see, and for options that cannot be honoured yet */
export function toSpec(
  body: CommandBody<'sandbox.create'>,
  image: { imageId: ImageId; ref: string },
  volumes: VolumeMount[],
): SandboxSpec {
  if (body.runtime === 'vm') {
    throw new Rejected('UNIMPLEMENTED', 'the VM runtime is not served yet', {
      hint: 'use the runtime gvisor',
    })
  }
  checkMounts(volumes)
  const resources = {
    cpuMillis: body.cpuMillis ?? SANDBOX_LIMITS.cpuMillisDefault,
    memoryBytes: body.memoryBytes ?? SANDBOX_LIMITS.memoryBytesDefault,
    diskBytes: body.diskBytes ?? SANDBOX_LIMITS.diskBytesDefault,
  }
  const diskLimitBytes = body.diskLimitBytes ?? SANDBOX_LIMITS.diskLimitBytesDefault
  if (body.cpuLimitMillis !== null && body.cpuLimitMillis < resources.cpuMillis) {
    throw new Rejected('INVALID_ARGUMENT', 'cpuLimitMillis: is below the request')
  }
  // A limit below the default request is a smaller request, not a fault.
  if (body.diskBytes === null) resources.diskBytes = Math.min(resources.diskBytes, diskLimitBytes)
  if (diskLimitBytes < resources.diskBytes) {
    throw new Rejected('INVALID_ARGUMENT', 'diskLimitBytes: is below the request')
  }
  return {
    runtime: body.runtime,
    image,
    command: body.command,
    workdir: body.workdir,
    user: body.user,
    envNames: Object.keys(body.env).sort(),
    resources,
    cpuLimitMillis: body.cpuLimitMillis,
    diskLimitBytes,
    timeoutMs: body.timeoutMs ?? SANDBOX_LIMITS.timeoutMsDefault,
    idleTimeoutMs: body.idleTimeoutMs,
    network: body.network,
    volumes,
    name: body.name,
    tags: body.tags,
    appId: body.appId as AppId | null,
    stdin: body.stdin,
    pty: body.pty,
  }
}

function checkMounts(volumes: VolumeMount[]): void {
  const seen = new Set<string>()
  if (new Set(volumes.map(({ volumeId }) => volumeId)).size < volumes.length) {
    throw new Rejected('INVALID_ARGUMENT', 'volumes: one of them is mounted twice', {
      hint: 'mount it once, its parent directory for both',
    })
  }
  for (const { name, path, readOnly, version } of volumes) {
    const plain = normalize(path)
    if (RESERVED.some((reserved) => plain === reserved || plain.startsWith(`${reserved}/`))) {
      throw new Rejected('INVALID_ARGUMENT', `volumes: ${path} belongs to the runtime`, {
        hint: 'mount it elsewhere',
      })
    }
    if (
      [...seen].some(
        (other) => plain === other || plain.startsWith(`${other}/`) || other.startsWith(`${plain}/`),
      )
    ) {
      throw new Rejected('INVALID_ARGUMENT', `volumes: ${path} overlaps another mount`)
    }
    if (version !== null && !readOnly) {
      throw new Rejected(
        'INVALID_ARGUMENT',
        `volumes: version ${version} of ${name} can only be mounted read-only`,
        {
          hint: 'set readOnly, or leave the version out',
        },
      )
    }
    seen.add(plain)
  }
}

function normalize(path: string): string {
  return `/${path
    .split('/')
    .filter((part) => part !== '' && part !== '.')
    .join('/')}`
}
