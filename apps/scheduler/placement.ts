/**
 * Where a sandbox may run: on a live worker whose pool holds its image and its volumes and that has room.
 * This only proposes, from figures that may be a moment old; the append's reservation decides.
 */

import { type Resources, SandtrailError, type VolumeMount, type WorkerId } from '#libs/domain'

export interface WorkerLoad {
  workerId: WorkerId
  active: boolean
  free: Resources
  /** Of the pool's filesystem, all sandboxes' quotas aside. */
  poolFreeBytes: number
}

export interface Need {
  resources: Resources
  image: { ref: string; replicas: readonly WorkerId[] }
  volumes: readonly (VolumeMount & { home: WorkerId })[]
}

/** Below this much free space a pool takes no new sandbox: what runs there must still be able to write. */
export const POOL_WATERMARK_BYTES = 1024 ** 3

/**
 * Workers that may take it, the one with the most free memory first.
 *
 * @throws SandtrailError MISPLACED that says what is where, NO_CAPACITY when the place is right but full
 */
export function proposeWorkers(workers: readonly WorkerLoad[], need: Need): WorkerId[] {
  const active = workers.filter((worker) => worker.active)
  if (active.length === 0) {
    throw new SandtrailError('NO_CAPACITY', 'no worker takes sandboxes now', {
      hint: 'start a runtime-worker, or uncordon one: `sandtrail worker ls`, `sandtrail doctor`',
    })
  }
  const homes = new Set(need.volumes.map((volume) => volume.home))
  const right = active.filter(
    ({ workerId }) => need.image.replicas.includes(workerId) && [...homes].every((home) => home === workerId),
  )
  if (right.length === 0) throw misplaced(need)

  const roomy = right.filter((worker) => fits(worker, need.resources))
  if (roomy.length === 0) {
    throw new SandtrailError(
      'NO_CAPACITY',
      `no worker that has what it needs has room: ${right.map(describe).join('; ')}`,
      {
        hint: 'end sandboxes that are not needed, ask for less, or try again later',
      },
    )
  }
  return roomy.sort((a, b) => b.free.memoryBytes - a.free.memoryBytes).map(({ workerId }) => workerId)
}

function fits(
  { free, poolFreeBytes }: WorkerLoad,
  { cpuMillis, memoryBytes, diskBytes }: Resources,
): boolean {
  return (
    free.cpuMillis >= cpuMillis &&
    free.memoryBytes >= memoryBytes &&
    free.diskBytes >= diskBytes &&
    poolFreeBytes >= POOL_WATERMARK_BYTES
  )
}

function misplaced({ image, volumes }: Need): SandtrailError {
  const places = [
    `image ${image.ref} is on ${image.replicas.join(', ') || 'no worker'}`,
    ...volumes.map(({ name, home }) => `volume ${name} is on ${home}`),
  ]
  return new SandtrailError(
    'MISPLACED',
    `no live worker holds all that the sandbox needs: ${places.join('; ')}`,
    {
      hint: 'shipping between workers is not there yet: start the worker that is away, or use what lies together',
      retryable: true,
    },
  )
}

function describe({ workerId, free, poolFreeBytes }: WorkerLoad): string {
  const mib = (bytes: number) => `${Math.floor(bytes / 1024 ** 2)} MiB`
  return `${workerId} has ${free.cpuMillis / 1000} cores, ${mib(free.memoryBytes)} of memory, ${mib(Math.min(free.diskBytes, poolFreeBytes))} of disk free`
}
