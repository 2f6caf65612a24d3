/** The guest's root: programs of this host with the libraries that they need, each where it is here, on a disk image. */

import { execFileSync } from 'node:child_process'
import {
  chmodSync,
  copyFileSync,
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  realpathSync,
  rmSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from 'node:fs'
import { basename, dirname, join } from 'node:path'
import { tools } from '../../scripts/system/tools.mjs'

export interface RootContent {
  programs: readonly string[]
  /** Files and directories that are copied as they are, to where they are here unless told otherwise. */
  trees: readonly (string | { from: string; to: string })[]
  /** Empty directories, for mounts. */
  directories: readonly string[]
  /** The kernel's modules, all of them, for a guest that needs more than disk and network. */
  modules?: boolean
  /** A shell script; the guest is switched off when it ends. */
  main: string
}

/** Postgres as set-up found it, with all that a cluster of our own loads. */
export function postgresContent(): { programs: string[]; trees: string[] } {
  const bin = tools().SANDTRAIL_PG_BIN!
  const ask = (what: string) => execFileSync(join(bin, 'pg_config'), [what], { encoding: 'utf8' }).trim()
  return {
    programs: [join(bin, 'postgres')],
    // Its configuration names this host's time zone and locale.
    trees: [ask('--pkglibdir'), ask('--sharedir'), '/usr/share/zoneinfo', '/usr/lib/locale/C.utf8'].filter(
      existsSync,
    ),
  }
}

/** Makes `image`, ext4, from `content`. What the guest writes to it stays in its memory. */
export function makeRoot(image: string, guestDir: string, content: RootContent): void {
  const root = mkdtempSync(join(dirname(image), 'root-'))
  try {
    for (const path of ['bin', 'sbin', 'lib', 'lib64']) {
      mkdirSync(join(root, 'usr', path), { recursive: true })
      symlinkSync(`usr/${path}`, join(root, path))
    }
    const standard = ['proc', 'sys', 'dev', 'run', 'tmp', 'etc', 'root', 'var/tmp']
    for (const path of [...standard, ...content.directories]) mkdirSync(join(root, path), { recursive: true })
    installBusybox(root, join(guestDir, 'busybox'))
    for (const path of ['/etc/passwd', '/etc/group']) copyFileSync(path, join(root, path))
    writeFileSync(join(root, 'etc/hosts'), '127.0.0.1 localhost\n')
    writeFileSync(join(root, 'etc/resolv.conf'), '')
    if (content.modules) cpSync(join(guestDir, 'modules'), join(root, 'usr/lib/modules'), { recursive: true })
    for (const tree of content.trees) {
      const { from, to } = typeof tree === 'string' ? { from: tree, to: tree } : tree
      copyTree(from, join(root, to))
    }
    for (const program of content.programs) {
      for (const file of [program, ...librariesOf(program)]) place(root, file)
    }
    const main = `#!/bin/sh\n${content.main}\necho "GUEST: ended with $?"\npoweroff -f\n`
    writeFileSync(join(root, 'guest-main'), main, { mode: 0o755 })
    makeDisk(image, root, '4G')
  } finally {
    rmSync(root, { recursive: true, force: true })
  }
}

/** Makes `image`, ext4 with the content of a directory; what is free of `size` takes no room. */
export function makeDisk(image: string, directory: string, size: string): void {
  writeFileSync(image, '', { mode: 0o600 })
  truncateSync(image, Number.parseInt(size, 10) * 1024 ** 3)
  // Inode tables at once: else the guest would go on writing them while it is being tried.
  const options = 'lazy_itable_init=0,lazy_journal_init=0,nodiscard'
  execFileSync('mke2fs', ['-q', '-t', 'ext4', '-m', '0', '-E', options, '-d', directory, image], {
    env: { ...process.env, PATH: `${process.env.PATH}:/usr/sbin:/sbin` },
  })
}

/** In `bin`, with a link for each of its programs. */
export function installBusybox(root: string, busybox: string): void {
  copyFileSync(busybox, join(root, 'bin/busybox'))
  chmodSync(join(root, 'bin/busybox'), 0o755)
  for (const applet of execFileSync(busybox, ['--list'], { encoding: 'utf8' }).split('\n').filter(Boolean)) {
    if (applet !== 'busybox') symlinkSync('/bin/busybox', join(root, 'bin', applet))
  }
}

function copyTree(from: string, to: string): void {
  mkdirSync(dirname(to), { recursive: true })
  cpSync(realpathSync(from), to, { recursive: true, verbatimSymlinks: true })
}

/** The file itself, whatever links lead to it here. */
function place(root: string, path: string): void {
  const to = join(root, path)
  mkdirSync(dirname(to), { recursive: true })
  // Also busybox's of the same name, wherever in the path it comes first.
  for (const link of [to, join(root, 'bin', basename(path))]) rmSync(link, { force: true })
  copyFileSync(realpathSync(path), to)
}

/** Of a program that is linked dynamically; the loader is among them. */
function librariesOf(program: string): string[] {
  let text: string
  try {
    text = execFileSync('ldd', [program], { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] })
  } catch {
    return [] // A static one.
  }
  return [...text.matchAll(/(\/\S+) \(0x/g)].map(([, path]) => path!).filter((path) => existsSync(path))
}
