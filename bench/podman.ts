/**
 * Run and exec of the same image by podman with the same runsc. SANDTRAIL_PODMAN names podman where it is not in PATH,
 * SANDTRAIL_CONMON its monitor.
 */

import { execFile } from 'node:child_process'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { tools } from '../scripts/system/tools.mjs'
import type { Program } from './bench.js'
import { figure, paired } from './figure.js'

const run = promisify(execFile)
const RUNS = 10

export const benchPodman: Program = async ({ stock }) => {
  const podman = await openPodman()
  if (podman === null) {
    console.error('podman is not installed: its figures are left out')
    return []
  }
  try {
    const { client } = await stock()
    const ended: string[] = []
    const create = async () => {
      const { sandboxId } = await client.command('sandbox.create', {})
      ended.push(String(sandboxId))
      await client.command('sandbox.exec', { sandboxId, argv: ['/bin/echo', 'hello'], waitMs: 60_000 })
    }
    const runs = await paired(RUNS, create, async () => {
      await podman.run()
    })
    for (const sandboxId of ended) await client.command('sandbox.terminate', { sandboxId })
    const { sandboxId } = await client.command('sandbox.create', { timeoutMs: 600_000 })
    const exec = () => client.command('sandbox.exec', { sandboxId, argv: ['/bin/true'], waitMs: 60_000 })
    const execs = await paired(RUNS, exec, podman.exec)
    await client.command('sandbox.terminate', { sandboxId })
    return [
      figure({
        name: "create to first exec's output",
        against: '`podman run --runtime runsc` of the same image',
        unit: 'ms',
        ...runs,
        target: { atMost: 1 },
      }),
      figure({
        name: 'exec of /bin/true',
        against: '`podman exec` with the same runtime',
        unit: 'ms',
        ...execs,
        target: { atMost: 1 },
      }),
    ]
  } finally {
    await podman.close()
  }
}

/** With a store of its own; null where there is no podman. */
async function openPodman() {
  const program = process.env.SANDTRAIL_PODMAN ?? 'podman'
  try {
    await run(program, ['--version'])
  } catch {
    return null
  }
  const { SANDTRAIL_RUNSC = '', SANDTRAIL_RUNSC_PLATFORM = '', SANDTRAIL_BASE_IMAGE = '' } = tools()
  const dir = await mkdtemp(join(tmpdir(), 'sandtrail-podman-'))
  // A runtime is named by its path, which has no room for flags.
  const runtime = join(dir, 'runsc')
  const flags = `--platform=${SANDTRAIL_RUNSC_PLATFORM} --network=none --overlay2=none --ignore-cgroups`
  await writeFile(runtime, `#!/bin/sh\nexec ${SANDTRAIL_RUNSC} ${flags} "$@"\n`, { mode: 0o755 })
  const store = ['--root', join(dir, 'root'), '--runroot', join(dir, 'run'), '--storage-driver', 'overlay']
  const conmon = process.env.SANDTRAIL_CONMON ? ['--conmon', process.env.SANDTRAIL_CONMON] : []
  const global = [
    ...store,
    ...conmon,
    '--cgroup-manager',
    'cgroupfs',
    '--events-backend',
    'none',
    '--runtime',
    runtime,
  ]
  const call = (...args: string[]) => run(program, [...global, ...args])
  const options = ['--network=none', '--security-opt=seccomp=unconfined', '--log-driver=none']
  try {
    await call('import', SANDTRAIL_BASE_IMAGE, 'base:latest')
    await call('run', '--detach', '--name', 'kept', ...options, 'base:latest', '/bin/sleep', '3600')
  } catch (error) {
    await remove(dir)
    throw error
  }
  return {
    run: () => call('run', '--rm', ...options, 'base:latest', '/bin/echo', 'hello'),
    exec: () => call('exec', 'kept', '/bin/true'),
    async close() {
      await call('rm', '--force', '--time', '0', 'kept').catch(() => {})
      await remove(dir)
    },
  }
}

/** Its store keeps a mount of its own. */
async function remove(dir: string): Promise<void> {
  await run('umount', ['--recursive', join(dir, 'root', 'overlay')]).catch(() => {})
  await rm(dir, { recursive: true, force: true })
}
