/**
 * `cp`: through `tar` on both sides, so that names, modes, links and every byte arrive as they were. What comes is
 * unpacked beside its target and then renamed, so a copy that breaks off leaves no half of it under the final name.
 */

import { spawn } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { lstat, mkdir, readdir, rename, rm, stat } from 'node:fs/promises'
import { basename, dirname, join, resolve } from 'node:path'
import { PassThrough, type Readable, type Writable } from 'node:stream'
import { finished } from 'node:stream/promises'
import { Rejected, SandtrailError } from '#libs/domain'
import { Api, path } from '../api.js'
import { waitForExec } from '../attach/attach.js'
import { followOutput } from '../attach/follow-output.js'
import { pumpStdin } from '../attach/pump-stdin.js'
import { usage } from '../failure.js'
import { progress } from '../print.js'

type Place = { sandbox: string; path: string }

export async function cp(source: string, target: string): Promise<void> {
  if (source === '-' || target === '-') {
    throw usage(
      'cp copies files, not streams',
      'pipe a tar instead: `sandtrail exec SANDBOX -- tar -c PATH > FILE`; a file called - is ./-',
    )
  }
  const from = remotePlace(source)
  const to = remotePlace(target)
  if ((from === null) === (to === null)) {
    throw usage('one of the two must be in a sandbox, and one here', 'write it like SANDBOX:/path')
  }
  const api = Api.fromEnvironment()
  if (to !== null) await copyIn(api, source, to)
  else await copyOut(api, from!, target)
  api.close()
}

/** `SANDBOX:/path`. A local name with a colon can be written as ./a:b. */
export function remotePlace(text: string): Place | null {
  const form = /^([A-Za-z0-9][A-Za-z0-9._-]*):(.*)$/s.exec(text)
  if (form === null) return null
  const [, sandbox, remote] = form
  if (!remote!.startsWith('/')) throw usage(`${JSON.stringify(text)}: the path in a sandbox must be absolute`)
  return { sandbox: sandbox!, path: remote! }
}

// $1: the target, $2: the name in the archive, $3: a name that nothing else has. As cp does: into a directory that
// is there, else to the target's own name.
const UNPACK = `set -e
if [ -d "$1" ]; then dir=$1 name=$2; else dir=$(dirname "$1") name=$(basename "$1"); fi
case $1 in */) [ -d "$1" ] || { echo "no directory $1" >&2; exit 3; } ;; esac
tmp=$dir/$3
mkdir -p "$tmp"
trap 'rm -rf "$tmp"' EXIT
tar -x -f - -C "$tmp"
if [ -d "$dir/$name" ] && [ ! -L "$dir/$name" ] && [ -d "$tmp/$2" ]; then cp -a "$tmp/$2/." "$dir/$name/"; else mv -f "$tmp/$2" "$dir/$name"; fi`

async function copyIn(api: Api, source: string, { sandbox, path: target }: Place): Promise<void> {
  const local = resolve(source)
  await existing(local)
  const name = basename(local)
  const argv = ['sh', '-c', UNPACK, 'sh', target, name, temporaryName()]
  const pack = tar(['-c', '-f', '-', '-C', dirname(local), '--', `./${name}`])
  await both(pack.done, runRemote(api, sandbox, argv, pack.output, null))
  progress(`copied ${source}`)
}

/** @throws Rejected NOT_FOUND when there is nothing at the path here */
async function existing(local: string): Promise<void> {
  if (await lstat(local).catch(() => null)) return
  throw new Rejected('NOT_FOUND', `there is nothing at ${local} here`, {
    hint: 'a path in a sandbox is written SANDBOX:/path',
  })
}

async function copyOut(api: Api, { sandbox, path: source }: Place, target: string): Promise<void> {
  const clean = source.replace(/\/+$/, '') || '/'
  if (clean === '/') throw usage('the whole of / cannot be copied', 'name a directory below it')
  const name = basename(clean)
  const { dir, name: finalName } = await localTarget(target, name)
  const temporary = join(dir, temporaryName())
  await mkdir(temporary, { mode: 0o700 })
  try {
    // Owners are the sandbox's, not this host's. Links that lead out are made last by tar, so nothing is written through them.
    const unpack = tar(['-x', '-f', '-', '-C', temporary, '--no-same-owner', '--no-same-permissions'])
    const argv = ['tar', '-c', '-f', '-', '-C', dirname(clean), '--', `./${name}`]
    await both(unpack.done, runRemote(api, sandbox, argv, null, unpack.input))
    await moveIntoPlace(temporary, name, join(dir, finalName))
  } finally {
    await rm(temporary, { recursive: true, force: true })
  }
  progress(`copied ${source}`)
}

async function localTarget(target: string, name: string): Promise<{ dir: string; name: string }> {
  const found = await stat(target).catch(() => null)
  if (found?.isDirectory()) return { dir: resolve(target), name }
  if (target.endsWith('/')) throw usage(`no directory ${target}`)
  const full = resolve(target)
  return { dir: dirname(full), name: basename(full) }
}

/** Only the one name that was asked for is taken, whatever else the sandbox's tar sent. */
async function moveIntoPlace(temporary: string, name: string, target: string): Promise<void> {
  const names = await readdir(temporary)
  if (!names.includes(name)) throw new SandtrailError('UNAVAILABLE', `nothing called ${name} came`)
  await removeSpecial(temporary)
  const [come, there] = await Promise.all([
    lstat(join(temporary, name)).catch(() => null),
    lstat(target).catch(() => null),
  ])
  if (come === null) throw new Rejected('INVALID_ARGUMENT', `${name} is a device, a pipe or a socket`)
  if (there?.isDirectory() && come.isDirectory()) {
    // Not through a link that an earlier copy has brought: the sandbox could have it point anywhere here.
    const merge = spawnTool('cp', ['-a', '--remove-destination', '--', `${join(temporary, name)}/.`, target])
    await merge.done
    return
  }
  await rename(join(temporary, name), target)
}

/** Only files, directories and links are copied: to root here, tar brings devices too, and a pipe would stop a reader. */
async function removeSpecial(dir: string): Promise<void> {
  for (const entry of await readdir(dir, { withFileTypes: true })) {
    const path = join(dir, entry.name)
    if (entry.isDirectory()) await removeSpecial(path)
    else if (!entry.isFile() && !entry.isSymbolicLink()) {
      await rm(path)
      progress(`left out ${JSON.stringify(entry.name)}: a device, a pipe or a socket`)
    }
  }
}

/** Runs a program in the sandbox with these streams. @throws when it fails, with what it wrote to stderr */
async function runRemote(
  api: Api,
  sandbox: string,
  argv: string[],
  input: Readable | null,
  sink: Writable | null,
): Promise<void> {
  const { execId } = await api.json<{ execId: string }>('POST', path`/v1/sandboxes/${sandbox}/execs`, {
    json: { argv, stdin: input === null ? 'closed' : 'open' },
    command: true,
  })
  const over = new AbortController()
  const { signal } = over
  const end = waitForExec(api, execId, signal)
  const stderr = new PassThrough()
  const said = text(stderr)
  const follow = (stream: 'stdout' | 'stderr', to: Writable) => {
    const total = end.then((exec) => exec[stream]?.bytes ?? 0)
    total.catch(() => {}) // Told by `end` itself.
    return followOutput(api, { path: path`/v1/execs/${execId}/output/${stream}` }, to, { total, signal })
  }
  const toSink = sink ?? new PassThrough().resume()
  try {
    const feeding = input === null ? Promise.resolve() : pumpStdin(api, execId, input, { signal })
    const [exec] = await Promise.all([end, follow('stdout', toSink), follow('stderr', stderr), feeding])
    toSink.end()
    stderr.end()
    if (exec.exitCode === 0) return
    const why = (await said).trim() || exec.reason || `exit code ${exec.exitCode}`
    throw new Rejected('INVALID_ARGUMENT', `${argv[0]} in the sandbox failed: ${why.slice(0, 1_000)}`)
  } finally {
    over.abort()
    if (!toSink.writableEnded) toSink.destroy()
  }
}

function tar(args: string[]) {
  return spawnTool('tar', args)
}

/** A kept tool, its arguments never through a shell. */
function spawnTool(name: string, args: string[]) {
  const child = spawn(name, args, { stdio: ['pipe', 'pipe', 'pipe'] })
  const said = text(child.stderr)
  // Taken up at once: what a child has written is thrown away when it ends before anybody reads.
  const output = child.stdout.pipe(new PassThrough())
  // One that ends before it has read all tells by its exit code, not by a broken pipe.
  child.stdin.on('error', () => {})
  const done = new Promise<void>((resolve, reject) => {
    child.on('error', reject)
    child.on('close', async (code) => {
      if (code === 0) resolve()
      else
        reject(
          new Rejected('INVALID_ARGUMENT', `${name} failed here: ${(await said).trim().slice(0, 1_000)}`),
        )
    })
  })
  return { input: child.stdin, output, done }
}

/** Waits for both sides, so that neither is left running; throws what failed first in the order given. */
async function both(...sides: Promise<void>[]): Promise<void> {
  for (const side of await Promise.allSettled(sides)) if (side.status === 'rejected') throw side.reason
}

async function text(stream: Readable): Promise<string> {
  let all = ''
  stream.setEncoding('utf8')
  stream.on('data', (chunk: string) => {
    if (all.length < 64 * 1024) all += chunk
  })
  await finished(stream).catch(() => {})
  return all
}

function temporaryName(): string {
  return `.sandtrail-cp-${randomBytes(8).toString('hex')}`
}
