/** A QEMU guest without hardware virtualisation, on the kernel of scripts/setup/guest.sh. */

import { type ChildProcess, execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import { copyFileSync, globSync, mkdirSync, rmSync } from 'node:fs'
import { basename, dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { ROOT } from '../system.js'

export interface GuestOptions {
  /** As `fetchGuest` gives it. */
  guestDir: string
  /** As `makeInitrd` gives it. */
  initrd: string
  root: string
  /** The second disk: a file, or `nbd+unix:///?socket=PATH`. */
  data?: string
  memoryMiB: number
  /** Ports of loopback, here by port in the guest. */
  forwards?: ReadonlyMap<number, number>
  /** What /init reads from the kernel's command line. */
  variables: Record<string, string>
  /** Told each line of the console. */
  onLine?: (line: string) => void
}

const BOOT_MODULES =
  'virtio_ring virtio virtio_pci_modern_dev virtio_pci_legacy_dev virtio_pci virtio_blk failover net_failover virtio_net overlay'

/** Brings QEMU and the kernel unless they are there. @returns the directory of the kernel, its modules and busybox */
export function fetchGuest(): string {
  const said = execFileSync(join(ROOT, 'scripts/setup/guest.sh'), { encoding: 'utf8' })
  return said.trim().split('\n').at(-1)!
}

/** Makes an initrd: busybox, the modules of disk and network, and init.sh. */
export function makeInitrd(path: string, guestDir: string): void {
  const root = `${path}.d`
  for (const name of ['bin', 'proc', 'sys', 'dev', 'root', 'modules'])
    mkdirSync(join(root, name), { recursive: true })
  const busybox = join(guestDir, 'busybox')
  copyFileSync(busybox, join(root, 'bin/busybox'))
  copyFileSync(join(dirname(fileURLToPath(import.meta.url)), 'init.sh'), join(root, 'init'))
  for (const name of BOOT_MODULES.split(' ')) {
    const [module] = globSync(join(guestDir, 'modules/*/kernel/**', `${name}.ko`))
    if (module === undefined) throw new Error(`the guest's kernel has no module ${name}`)
    copyFileSync(module, join(root, 'modules', basename(module)))
  }
  const script = `chmod 755 init bin/busybox && "$0" find . | "$0" cpio -o -H newc >"$1"`
  execFileSync('sh', ['-c', script, busybox, path], { cwd: root, stdio: ['ignore', 'ignore', 'ignore'] })
  rmSync(root, { recursive: true })
}

export class Guest {
  /** Everything that it said on its console. */
  console = ''
  private readonly child: ChildProcess
  private readonly ended: Promise<unknown>
  private waiting: (() => void)[] = []

  constructor(options: GuestOptions) {
    const { guestDir, initrd, root, data, memoryMiB, forwards = new Map(), variables } = options
    const drive = (id: string, file: string, more: string) => [
      ...['-drive', `if=none,id=${id},file=${file},format=raw,${more}`],
      ...['-device', `virtio-blk-pci,drive=${id}`],
    ]
    const ports = [...forwards].map(([guest, host]) => `,hostfwd=tcp:127.0.0.1:${host}-10.0.2.15:${guest}`)
    const kernel = ['console=ttyS0', 'quiet', 'panic=-1', 'cryptomgr.notests=1']
    const append = [...kernel, ...Object.entries(variables).map(([key, value]) => `${key}=${value}`)]
    const args = [
      // Whoever started it is its only reason to be: with it gone, so is the guest.
      ...['--pdeathsig', 'KILL', 'qemu-system-x86_64'],
      // `max`: what the kernel and V8 were compiled for. Never KVM: where it exists and does not work, a guest hangs.
      ...['-accel', 'tcg,thread=multi', '-cpu', 'max', '-smp', '2', '-m', String(memoryMiB)],
      ...['-nodefaults', '-no-user-config', '-display', 'none', '-no-reboot', '-serial', 'stdio'],
      ...['-kernel', join(guestDir, 'vmlinuz'), '-initrd', initrd, '-append', append.join(' ')],
      ...drive('root', root, 'readonly=on'),
      ...(data === undefined ? [] : drive('data', data, 'cache=writeback')),
      // `restrict`: nothing of the guest's gets out, neither to this host nor further.
      ...['-netdev', `user,id=net,restrict=on${ports.join('')}`, '-device', 'virtio-net-pci,netdev=net'],
    ]
    this.child = spawn('setpriv', args, { stdio: ['ignore', 'pipe', 'pipe'] })
    this.ended = once(this.child, 'exit')
    const read = (text: string) => {
      const from = this.console.lastIndexOf('\n') + 1
      this.console += text
      for (const line of this.console.slice(from).split('\n').slice(0, -1)) options.onLine?.(line.trimEnd())
      for (const wake of this.waiting.splice(0)) wake()
    }
    this.child.stdout!.setEncoding('utf8').on('data', read)
    this.child.stderr!.setEncoding('utf8').on('data', read)
    void this.ended.then(() => read(''))
  }

  /** Resolves when the console has said `text`. @throws when the guest ends before, or says nothing of it in time */
  async said(text: string, timeoutMs: number): Promise<void> {
    const giveUp = AbortSignal.timeout(timeoutMs)
    const timer = new Promise<void>((resolve) => giveUp.addEventListener('abort', () => resolve()))
    while (!this.console.includes(text)) {
      if (giveUp.aborted || !this.isRunning) {
        const what = giveUp.aborted ? `said nothing of "${text}" in ${timeoutMs} ms` : 'ended too early'
        throw new Error(`the guest ${what}; the end of its console:\n${this.console.slice(-3_000)}`)
      }
      await Promise.race([new Promise<void>((resolve) => this.waiting.push(resolve)), timer])
    }
  }

  /** Resolves when it has switched itself off. */
  async off(): Promise<void> {
    await this.ended
  }

  /** The power is cut: its memory, and what its disk did not flush, is gone. */
  async kill(): Promise<void> {
    if (this.isRunning) this.child.kill('SIGKILL')
    await this.ended
  }

  private get isRunning(): boolean {
    return this.child.exitCode === null && this.child.signalCode === null
  }
}
