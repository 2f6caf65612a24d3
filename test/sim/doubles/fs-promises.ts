/** node:fs/promises on the simulated disk; a call of a process that dies meanwhile never comes back. */

import { currentWorld, Killed } from '../world.js'
import {
  closeSync,
  fdatasync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  readSync,
  renameSync,
  rmSync,
  step,
  writeSync,
} from './fs.js'

export * from 'node:fs/promises'

/** Most calls are answered from memory; some take their time, so that others overtake them. */
function answer<T>(work: () => T): Promise<T> {
  const world = currentWorld()!
  return new Promise((resolve, reject) => {
    const finish = () => {
      try {
        resolve(work())
      } catch (error) {
        if (!(error instanceof Killed)) reject(error)
      }
    }
    if (world.random.chance(0.9)) finish()
    else world.after(world.random.between(0, 3), finish)
  })
}

class Handle {
  constructor(private readonly fd: number) {}

  writeFile(text: string): Promise<void> {
    return answer(() => void writeSync(this.fd, Buffer.from(text)))
  }

  write(bytes: Buffer, offset: number, length: number, position: number) {
    return answer(() => ({ bytesWritten: writeSync(this.fd, bytes, offset, length, position) }))
  }

  read(into: Buffer, offset: number, length: number, position: number) {
    return answer(() => ({ bytesRead: readSync(this.fd, into, offset, length, position) }))
  }

  datasync(): Promise<void> {
    return new Promise((resolve) => fdatasync(this.fd, () => resolve()))
  }

  sync(): Promise<void> {
    return this.datasync()
  }

  close(): Promise<void> {
    return answer(() => closeSync(this.fd))
  }
}

export const open = (path: string, flags?: string) => answer(() => new Handle(openSync(path, flags)))
export const rename = (from: string, to: string) => answer(() => renameSync(from, to))
export const mkdir = (path: string) => answer(() => mkdirSync(path))
export const readdir = (path: string, options = {}) => answer(() => readdirSync(path, options))
export const readFile = (path: string, encoding?: string) => answer(() => readFileSync(path, encoding))
export const rm = (path: string, options = {}) => answer(() => rmSync(path, options))
export const rmdir = (path: string) => answer(() => step().host.disk.remove(path))
export const unlink = rmdir
