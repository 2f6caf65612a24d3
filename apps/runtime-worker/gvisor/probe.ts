/** Proves that gVisor works on this host by running a program in it; /dev/kvm and the like are never asked. */

import { constants } from 'node:fs'
import { access, mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { SandtrailError } from '#libs/domain'
import { createCgroup, endCgroup, joinFile, missingControllers } from '../cgroup/index.js'
import { run } from '../host/command.js'
import { IN_CGROUP, type RunscOptions, removeNullNetns } from './runsc.js'

/** A start takes 0.1 s; runsc on a platform that does not work can hang for ever. */
const PROBE_MS_MAX = 20_000
const KILL_MS_MAX = 5_000
const LIMITS = { memoryBytes: 512 * 1024 ** 2, cpuMillis: 2000, cpuLimitMillis: null, pidsMax: 512 }

/**
 * @param stateDir a directory for the probe's files, which are removed again
 * @param cgroupName a cgroup for its processes, which is removed too
 * @throws SandtrailError UNAVAILABLE that says what is missing and what to do
 */
export async function probe(
  runsc: RunscOptions,
  agentBinary: string,
  stateDir: string,
  cgroupName: string,
): Promise<void> {
  await executable(runsc.runsc, 'runsc', 'SANDTRAIL_RUNSC')
  await executable(agentBinary, 'the agent', 'SANDTRAIL_AGENT')
  const missing = missingControllers()
  if (missing.length > 0) {
    throw new SandtrailError(
      'UNAVAILABLE',
      `the host lacks these cgroup controllers: ${missing.join(', ')}`,
      {
        hint: 'boot without cgroup_disable=…, and mount cgroup v2 or these hierarchies of v1 (docs/worker.md)',
        retryable: false,
      },
    )
  }
  await mkdir(stateDir, { recursive: true, mode: 0o700 })
  const dir = await mkdtemp(join(stateDir, 'probe-'))
  const own = { ...runsc, root: join(dir, 'runsc') }
  try {
    createCgroup(cgroupName, LIMITS)
    await runTrivial(own, dir, agentBinary, joinFile(cgroupName))
  } finally {
    await endCgroup(cgroupName, KILL_MS_MAX)
    await removeNullNetns(own)
    await rm(dir, { recursive: true, force: true })
  }
}

async function executable(path: string, what: string, key: string): Promise<void> {
  await access(path, constants.X_OK).catch((cause: unknown) => {
    throw new SandtrailError('UNAVAILABLE', `${what} cannot be executed at ${path}`, {
      hint: `set ${key}, or run \`make setup\``,
      retryable: false,
      cause,
    })
  })
}

/** The agent without arguments says how it is used (exit code 64), which is all that is asked of it here. */
const AGENT_USAGE = 64

async function runTrivial(
  runsc: RunscOptions,
  dir: string,
  agentBinary: string,
  joinFile: string,
): Promise<void> {
  await mkdir(join(dir, 'root'))
  const spec = {
    ociVersion: '1.1.0',
    process: { user: { uid: 0, gid: 0 }, args: ['/agent'], env: [], cwd: '/' },
    root: { path: 'root', readonly: false },
    mounts: [{ destination: '/agent', type: 'bind', source: agentBinary, options: ['ro'] }],
    linux: { namespaces: ['pid', 'mount', 'network'].map((type) => ({ type })) },
  }
  await writeFile(join(dir, 'config.json'), JSON.stringify(spec))
  const flags = [`--root=${runsc.root}`, `--platform=${runsc.platform}`, '--network=none', '--ignore-cgroups']
  const args = [...flags, 'run', `--bundle=${dir}`, 'probe']
  await run('/bin/sh', [...IN_CGROUP, joinFile, runsc.runsc, ...args], { timeoutMs: PROBE_MS_MAX }).catch(
    (cause: { exitCode?: number | null }) => {
      if (cause.exitCode === AGENT_USAGE) return
      throw new SandtrailError('UNAVAILABLE', `runsc runs no program on the platform ${runsc.platform}`, {
        hint: 'SANDTRAIL_RUNSC_PLATFORM=ptrace works on every host, more slowly',
        retryable: false,
        cause,
      })
    },
  )
}
