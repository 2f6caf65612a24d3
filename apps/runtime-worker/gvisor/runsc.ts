/** The one call of the runsc program, under a time limit, because runsc can hang; and what it leaves behind. */

import { type ChildProcess, spawn } from 'node:child_process'
import { readdir, readFile, rm } from 'node:fs/promises'
import { join } from 'node:path'
import type { Writable } from 'node:stream'
import { CommandFailed, run, TOOL_PATH } from '../host/command.js'

export interface RunscOptions {
  /** The program. */
  runsc: string
  platform: 'systrap' | 'ptrace'
  /** runsc's own state. */
  root: string
}

export interface RunInput {
  id: string
  bundle: string
  network: 'none' | 'sandbox'
  /** The call moves itself there before it becomes runsc: nothing of it is ever out of the cgroup's reach. */
  joinFile: string
  pidFile: string
  log: string
  panicLog: string
}

/** A start takes 0.1 s on an idle host; a minute is for one that is drowning. */
const RUN_MS_MAX = 45_000
const UMOUNT_MS_MAX = 10_000
/** Of runsc's own log, for an error's text. */
const LOG_TAIL = 2048

/**
 * Arguments of /bin/sh before a cgroup's `joinFile` and a command: it is in the cgroup before it is the command. If the
 * worker dies here and its successor removes the cgroup first, the redirection fails and nothing starts.
 */
export const IN_CGROUP = ['-c', 'echo $$ >"$0" && exec "$@"']

/** The same, and waits for a line on its descriptor 3 before it is the command; the end of that file ends it. */
const IN_CGROUP_WHEN_TOLD = ['-c', 'echo $$ >"$0" && read -r _ <&3 && exec "$@" 3<&-']

/**
 * `runsc run --detach` in two parts. To start a process and put it into a cgroup takes 10 ms (v1 waits for every CPU),
 * which pass while what the container needs is made; then it is told to go on.
 */
export class DetachedRun {
  private readonly args: string[]
  private readonly child: ChildProcess
  private readonly done: Promise<void>

  constructor(
    private readonly options: RunscOptions,
    private readonly input: RunInput,
    signal: AbortSignal,
  ) {
    const flags = [
      ...[`--root=${options.root}`, `--platform=${options.platform}`, `--network=${input.network}`],
      // The root's writes must land in its subvolume, or a snapshot of that would be empty.
      '--overlay2=none',
      ...['--host-uds=open', '--allow-suid', '--cpu-num-from-quota'],
      ...[`--log=${input.log}`, '--log-format=json', `--panic-log=${input.panicLog}`],
    ]
    this.args = ['run', '--detach', `--pid-file=${input.pidFile}`, `--bundle=${input.bundle}`, input.id]
    const command = [...IN_CGROUP_WHEN_TOLD, input.joinFile, options.runsc, ...flags, ...this.args]
    this.child = spawnQuiet('/bin/sh', command, signal)
    this.done = untilDone(this.child, command)
    this.done.catch(() => {}) // Told by `go`; without it nobody is interested.
    this.told.on('error', () => {}) // It has ended before it was told: its exit says so.
  }

  /**
   * Resolves with the sandbox's pid when the agent's process has been started inside.
   *
   * @throws CommandFailed with the end of runsc's log; something of it may still run then.
   */
  async go(): Promise<number> {
    this.told.end('\n')
    await this.done.catch(async (cause: unknown) => {
      const log = await readFile(this.input.log, 'utf8').catch(() => '')
      const exitCode = cause instanceof CommandFailed ? cause.exitCode : null
      throw new CommandFailed(this.options.runsc, this.args, exitCode, log.slice(-LOG_TAIL), { cause })
    })
    return Number(await readFile(this.input.pidFile, 'utf8'))
  }

  /** It will not be told any more: resolves when it has ended, unless it was told before. */
  async cancel(): Promise<void> {
    this.told.destroy()
    await this.done.catch(() => {})
  }

  private get told(): Writable {
    return this.child.stdio[3] as Writable
  }
}

/** Its stdio is /dev/null, because the guest's first process inherits it. */
function spawnQuiet(file: string, args: string[], signal: AbortSignal): ChildProcess {
  return spawn(file, args, {
    stdio: ['ignore', 'ignore', 'ignore', 'pipe'],
    // A Ctrl-C at the worker's terminal is not for the sandboxes.
    detached: true,
    env: { PATH: TOOL_PATH },
    timeout: RUN_MS_MAX,
    killSignal: 'SIGKILL',
    signal,
  })
}

function untilDone(child: ChildProcess, args: string[]): Promise<void> {
  return new Promise((resolve, reject) => {
    child.on('error', (error) => {
      // An aborted one is told of before it is dead: until its exit it can still join the cgroup.
      if (child.pid === undefined) reject(error)
    })
    child.once('exit', (code) =>
      code === 0 ? resolve() : reject(new CommandFailed('/bin/sh', args, code, '')),
    )
  })
}

/**
 * Makes runsc forget a container whose processes are dead. Idempotent. `runsc delete` would do no more for it: cgroup
 * and netns are ours. It costs the start of a large program, and can hang.
 */
export async function forget(options: RunscOptions, id: string): Promise<void> {
  for (const name of await stateFiles(options, id)) await rm(join(options.root, name), { force: true })
}

/** Whether runsc has any state of the container. */
export async function knows(options: RunscOptions, id: string): Promise<boolean> {
  return (await stateFiles(options, id)).length > 0
}

async function stateFiles(options: RunscOptions, id: string): Promise<string[]> {
  const names = await readdir(options.root).catch(() => [])
  return names.filter((name) => name.startsWith(`${id}_`) || name === `runsc-${id}.sock`)
}

/** The ids that runsc has any state of. */
export async function knownIds(options: RunscOptions): Promise<string[]> {
  const names = await readdir(options.root).catch(() => [])
  const ids = names.map((name) => /^(.+)_sandbox:.*$/.exec(name)?.[1] ?? /^runsc-(.+)\.sock$/.exec(name)?.[1])
  return [...new Set(ids.filter((id) => id !== undefined))]
}

/** The empty netns that `--network=none` shares among its sandboxes; they keep it alive themselves. */
export async function removeNullNetns(options: RunscOptions): Promise<void> {
  const path = join(options.root, 'null-netns')
  await run('umount', ['-l', path], { timeoutMs: UMOUNT_MS_MAX }).catch(() => {}) // Not mounted, most often.
  await rm(path, { force: true })
}
