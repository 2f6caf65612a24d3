/** runsc by hand, with the flags that the worker uses and nothing of ours around it: the baseline. */

import { execFile } from 'node:child_process'
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'

const run = promisify(execFile)

export interface ByHand {
  /** In the arguments of each of its processes. */
  dir: string
  /** `runsc run` of a fresh container of this bundle: `echo`, from start to end. */
  runOnce(): Promise<void>
  /** `runsc exec` of `/bin/true` in a container that is kept running. */
  execOnce(): Promise<void>
  /** `runsc exec` of a shell's `script` with `bytes` of zeros piped in, or what it prints piped out to nobody. */
  pipe(script: string, direction: 'in' | 'out', bytes?: number): Promise<void>
  remove(): Promise<void>
}

/** @param imageTar the base image, the very root that the sandboxes of the other side have */
export async function byHand(runsc: string, platform: string, imageTar: string): Promise<ByHand> {
  const dir = await mkdtemp(join(tmpdir(), 'sandtrail-by-hand-'))
  const root = join(dir, 'root')
  await mkdir(root)
  await run('tar', ['-C', root, '-xpf', imageTar])
  const flags = ['--root', join(dir, 'state'), `--platform=${platform}`, '--network=none', '--overlay2=none']
  const command = (...args: string[]) =>
    run(runsc, [...flags, '--host-uds=open', '--ignore-cgroups', ...args])
  const echo = await bundle(dir, root, ['/bin/echo', 'hello'])
  const sleep = await bundle(dir, root, ['/bin/sleep', '3600'])
  await run('/bin/sh', [
    '-c',
    'exec "$@" </dev/null >/dev/null 2>&1',
    'sh',
    runsc,
    ...flags,
    '--ignore-cgroups',
    'run',
    '--detach',
    '--bundle',
    sleep,
    'kept',
  ])
  let count = 0
  return {
    dir,
    async runOnce() {
      await command('run', '--bundle', echo, `once-${count++}`)
    },
    async execOnce() {
      await command('exec', 'kept', '/bin/true')
    },
    async pipe(script, direction, bytes = 0) {
      const exec = `"$@" exec kept /bin/sh -c '${script}'`
      const line = direction === 'out' ? `${exec} | cat >/dev/null` : `head -c ${bytes} /dev/zero | ${exec}`
      await run('/bin/sh', ['-c', line, 'sh', runsc, ...flags, '--ignore-cgroups'])
    },
    async remove() {
      await command('kill', 'kept', 'KILL').catch(() => {})
      await command('delete', '-force', 'kept').catch(() => {})
      await run('umount', [join(dir, 'state', 'null-netns')]).catch(() => {})
      await rm(dir, { recursive: true, force: true })
    },
  }
}

async function bundle(dir: string, root: string, args: string[]): Promise<string> {
  const path = join(dir, args[0]!.split('/').at(-1)!)
  await mkdir(path)
  const config = {
    ociVersion: '1.0.2',
    process: { args, cwd: '/', env: ['PATH=/usr/bin:/bin'], user: { uid: 0, gid: 0 } },
    root: { path: root, readonly: false },
    hostname: 'by-hand',
    mounts: [
      { destination: '/proc', type: 'proc', source: 'proc' },
      { destination: '/dev', type: 'tmpfs', source: 'tmpfs' },
    ],
    linux: { namespaces: ['pid', 'ipc', 'uts', 'mount', 'network'].map((type) => ({ type })) },
  }
  await writeFile(join(path, 'config.json'), JSON.stringify(config))
  return path
}
