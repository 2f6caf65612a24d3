/**
 * `make cgroup2`: the worker's own tests of cgroups and of gVisor on a host that has cgroup v2 and nothing else, as most
 * installations are; here it is a QEMU guest.
 *
 *   node --conditions=source --import tsx test/cgroup2/main.ts [PATTERN of test names]
 */

import { execFileSync } from 'node:child_process'
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { build } from 'esbuild'
import { tools } from '../../scripts/system/tools.mjs'
import { fetchGuest, Guest, makeInitrd } from '../guest/guest.js'
import { installBusybox, makeDisk, makeRoot } from '../guest/root.js'
import { ROOT } from '../system.js'

/** Each in a process of its own. */
const SPECS = [
  'apps/runtime-worker/cgroup/cgroup.int.spec.ts',
  'apps/runtime-worker/gvisor/gvisor.int.spec.ts',
]
/** What these start on a host. */
const PROGRAMS =
  'bash find xargs tar cp mv rm chmod chown stat flock mount umount losetup nsenter bwrap btrfs mkfs.btrfs ip nft'
const RUN_MS_MAX = 1_800_000
const DATA = '/data'
const BANNER = `import { createRequire } from 'node:module'
const require = createRequire(import.meta.url), __dirname = import.meta.dirname, __filename = import.meta.filename`

/** By default all of the first file, and of the second what asks for no speed that a guest has not. */
const NAMES = [
  ...[
    'limits are',
    'without a limit',
    'join',
    'killed',
    'counted',
    'removal',
    'nothing',
    'controllers',
    'v2',
    'swap',
  ],
  ...['host has', 'probe', 'memory left', 'sweep', 'any number of times'],
].join('|')

const names = process.argv[2] ?? NAMES
const home = mkdtempSync(join(tmpdir(), 'sandtrail-cgroup2-'))
let guest: Guest | undefined
try {
  const guestDir = fetchGuest()
  makeInitrd(join(home, 'initrd'), guestDir)
  mkdirSync(join(home, 'empty'))
  makeDisk(join(home, 'data.img'), join(home, 'empty'), '8G')
  await makeTestRoot(guestDir)
  guest = new Guest({
    guestDir,
    initrd: join(home, 'initrd'),
    root: join(home, 'root.img'),
    data: join(home, 'data.img'),
    memoryMiB: 3072,
    variables: { DATA, CGROUP: '2' },
    onLine: (line) => console.log(line),
  })
  await guest.said('GUEST: ended with', RUN_MS_MAX)
  const passed = guest.console.includes('GUEST: ended with 0')
  console.error(passed ? 'cgroup2: passed' : 'cgroup2: FAILED')
  process.exitCode = passed ? 0 : 1
} finally {
  await guest?.kill()
  rmSync(home, { recursive: true, force: true })
}

/** The specs as one file each, beside the sources that they were, with a small image instead of the base image. */
async function makeTestRoot(guestDir: string): Promise<void> {
  const { SANDTRAIL_RUNSC: runsc = '', SANDTRAIL_AGENT: agent = '' } = tools()
  const files = join(home, 'files')
  const commands: string[] = []
  for (const spec of SPECS) {
    const to = spec.replace(/\.ts$/, '.mjs')
    await build({
      entryPoints: [join(ROOT, spec)],
      outfile: join(files, to),
      bundle: true,
      platform: 'node',
      format: 'esm',
      conditions: ['source'],
      alias: { '@jest/globals': join(ROOT, 'test/cgroup2/jest-globals.ts') },
      // What a package that is CommonJS asks for.
      banner: { js: BANNER },
      logLevel: 'error',
    })
    // Not the file itself: a module of it may think that it is the program then.
    writeFileSync(join(files, `${to}.run.mjs`), `import '${join(ROOT, to)}'\n`)
    commands.push(
      `${process.execPath} --test-reporter=tap --test-name-pattern='/${names}/' ${join(ROOT, to)}.run.mjs 2>&1`,
    )
  }
  const image = join(files, 'image.tar')
  makeImage(image, guestDir)
  const env = { ...tools(), SANDTRAIL_BASE_IMAGE: '/image.tar' }
  const lines = Object.entries(env).map(([key, value]) => `${key}=${value}\n`)
  mkdirSync(join(files, '.tools'))
  writeFileSync(join(files, '.tools/env'), lines.join(''))
  const own = ['.tools', 'apps'].map((path) => ({ from: join(files, path), to: join(ROOT, path) }))
  makeRoot(join(home, 'root.img'), guestDir, {
    programs: [process.execPath, runsc, agent, ...PROGRAMS.split(' ').map(which)],
    trees: [...own, { from: image, to: '/image.tar' }],
    directories: [DATA, '/var/lib/sandtrail'],
    modules: true,
    main: [
      `export TMPDIR=${DATA} HOME=${DATA} PATH=/usr/sbin:/usr/bin`,
      'mkdir -p /run/lock /run/netns; modprobe loop; modprobe btrfs; grep cgroup /proc/mounts; cat /sys/fs/cgroup/cgroup.controllers',
      `${commands.join('; first=$?; ')}; second=$?; [ $first = 0 ] && [ $second = 0 ]`,
    ].join('\n'),
  })
}

/** A root in which there is busybox. */
function makeImage(path: string, guestDir: string): void {
  const root = join(home, 'image')
  for (const name of ['bin', 'etc', 'proc', 'dev', 'sys', 'root', 'tmp', 'var', 'usr']) {
    mkdirSync(join(root, name), { recursive: true })
  }
  installBusybox(root, join(guestDir, 'busybox'))
  execFileSync('tar', ['-C', root, '-cf', path, '.'])
}

function which(name: string): string {
  const env = { PATH: `${process.env.PATH}:/usr/sbin:/sbin` }
  return execFileSync('sh', ['-c', 'command -v "$0"', name], { encoding: 'utf8', env }).trim()
}
