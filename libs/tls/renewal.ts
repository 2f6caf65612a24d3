/** A renewed certificate is taken up while the server runs: connections that are open go on, new ones get it. */

import { statSync } from 'node:fs'
import type { Server } from 'node:https'
import { readIdentity, type TlsIdentity } from './certificate.js'

export interface TlsFiles {
  certFile: string
  keyFile: string
}

/** Looking at two files costs nothing, and nobody waits for it: the old certificate counts for weeks yet. */
const LOOK_MS = 5_000

export class ServerCertificate {
  private timer: NodeJS.Timeout | null = null
  private seen: string
  private problem: string | null = null

  /** `told`: hears of each change, once. */
  constructor(
    readonly files: TlsFiles,
    private current: TlsIdentity,
    private readonly told: (change: { expiresAt: Date } | { fault: string }) => void,
  ) {
    this.seen = stampOf(files)
  }

  /** Of the certificate that is shown now. */
  get expiresAt(): Date {
    return this.current.expiresAt
  }

  /** What is wrong with files that have changed; null: they are in use. */
  get fault(): string | null {
    return this.problem
  }

  start(server: Pick<Server, 'setSecureContext'>): void {
    this.timer = setInterval(() => this.look(server), LOOK_MS)
    this.timer.unref()
  }

  stop(): void {
    if (this.timer !== null) clearInterval(this.timer)
  }

  private look(server: Pick<Server, 'setSecureContext'>): void {
    const stamp = stampOf(this.files)
    // A pair of which one half was written is read again until it fits.
    if (stamp === this.seen && this.problem === null) return
    this.seen = stamp
    try {
      this.current = readIdentity(this.files.certFile, this.files.keyFile)
      server.setSecureContext({ cert: this.current.cert, key: this.current.key })
      this.problem = null
      this.told({ expiresAt: this.current.expiresAt })
    } catch (error) {
      const { message } = error as Error
      if (message === this.problem) return
      this.problem = message
      this.told({ fault: message })
    }
  }
}

function stampOf({ certFile, keyFile }: TlsFiles): string {
  return [certFile, keyFile]
    .map((file) => {
      const info = statSync(file, { throwIfNoEntry: false })
      return info === undefined ? 'gone' : `${info.mtimeMs} ${info.ctimeMs} ${info.ino} ${info.size}`
    })
    .join()
}
