/** The driver's own directory of a sandbox, `<dir>/runtime`: all of it goes when nothing is left to undo. */

import { randomBytes } from 'node:crypto'
import { chmodSync, mkdirSync, symlinkSync, writeFileSync } from 'node:fs'
import { lstat, readFile, rename, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import type { SandboxId } from '#libs/domain'
import { writeDurably } from '#libs/storage'
import type { ProcessIdentity } from '../host/process.js'
import type { MountedVolume } from '../runtime.js'
import { GUEST } from './bundle.js'

export class SandboxFiles {
  readonly home: string
  constructor(dir: string) {
    this.home = join(dir, 'runtime')
  }

  get undoLog(): string {
    return join(this.home, 'undo.jsonl')
  }
  get record(): string {
    return join(this.home, 'record.json')
  }
  get ready(): string {
    return join(this.home, 'ready.json')
  }
  get bundle(): string {
    return join(this.home, 'bundle')
  }
  get etc(): string {
    return join(this.home, 'etc')
  }
  /** The only directory of the host besides the slots that is inside the sandbox, read-only. */
  get sockets(): string {
    return join(this.home, 'sockets')
  }
  get pid(): string {
    return join(this.home, 'pid')
  }
  get log(): string {
    return join(this.home, 'runsc.log')
  }
  get panicLog(): string {
    return join(this.home, 'panic.log')
  }

  /** Everything is the service's own, since the bundle holds the agent's token; the sockets are the guest's to reach. */
  make(): void {
    mkdirSync(this.home, { recursive: true, mode: 0o700 })
    mkdirSync(this.bundle, { mode: 0o700 })
    mkdirSync(this.etc, { mode: 0o700 })
    const fsTools = join(this.sockets, GUEST.fsTools)
    for (const dir of [this.sockets, dirname(fsTools)]) {
      mkdirSync(dir)
      chmodSync(dir, 0o755) // Whatever the service's umask is: any user of the guest runs the tool.
    }
    // Its target is there inside alone, read-only as this directory is; a mount of its own would cost each start one.
    symlinkSync(GUEST.agent, fsTools)
  }

  /** Small files that nobody needs after a power cut: written at once, without the threads that fsyncs occupy. */
  writeBundle(spec: object, etc: Record<string, string>): void {
    writeFileSync(join(this.bundle, 'config.json'), JSON.stringify(spec), { mode: 0o600 })
    for (const [name, text] of Object.entries(etc)) {
      writeFileSync(join(this.etc, name), text)
      // Whatever the service's umask is, any user of the guest reads these.
      chmodSync(join(this.etc, name), 0o644)
    }
  }
}

/** Fsynced before the sandbox's process exists. */
export interface SandboxRecord {
  sandboxId: SandboxId
  epoch: number
  /** What the agent says to prove that it is this sandbox's. */
  token: string
}

/** Written when `create` is done: only such a sandbox is found again. It need not outlive the host, nor do processes. */
export interface ReadyRecord {
  process: ProcessIdentity
  volumes: MountedVolume[]
}

export function newToken(): string {
  return randomBytes(32).toString('base64url')
}

export async function writeRecord(files: SandboxFiles, record: SandboxRecord): Promise<void> {
  await writeDurably(files.record, JSON.stringify(record))
}

export async function readRecord(files: SandboxFiles): Promise<SandboxRecord | null> {
  return readJson<SandboxRecord>(files.record)
}

export async function writeReady(files: SandboxFiles, ready: ReadyRecord): Promise<void> {
  await writeFile(`${files.ready}.new`, JSON.stringify(ready), { mode: 0o600 })
  await rename(`${files.ready}.new`, files.ready)
}

export async function readReady(files: SandboxFiles): Promise<ReadyRecord | null> {
  return readJson<ReadyRecord>(files.ready)
}

async function readJson<T>(path: string): Promise<T | null> {
  const text = await readFile(path, 'utf8').catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return null
    throw error
  })
  return text === null ? null : (JSON.parse(text) as T)
}

/**
 * Whether the root's own /tmp can be bound over /tmp. A symlink there would make the host's kernel follow it on the
 * host: an image is a guest's work as often as not.
 */
export async function hasRealTmp(root: string): Promise<boolean> {
  const stat = await lstat(join(root, 'tmp')).catch(() => null)
  return stat?.isDirectory() ?? false
}
