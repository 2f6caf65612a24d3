/**
 * The disk of one simulated host: a tree of files that outlives every process. Of each file it is known what has been
 * synced; a power cut keeps that and, of what was appended since, any part. Names are durable at once: the product
 * syncs directories where it counts, and ext4 keeps their order.
 */

import { dirname } from 'node:path'
import type { Random } from './random.js'

export class File {
  data: Buffer = Buffer.alloc(0)
  /** As of the last sync. */
  private synced: Buffer = Buffer.alloc(0)

  constructor(public mtimeMs: number) {}

  write(bytes: Uint8Array, position: number, nowMs: number): void {
    const end = position + bytes.length
    if (end > this.data.length) {
      const grown = Buffer.alloc(end)
      this.data.copy(grown)
      this.data = grown
    } else {
      // What was synced may be the same memory.
      this.data = Buffer.from(this.data)
    }
    this.data.set(bytes, position)
    this.mtimeMs = nowMs
  }

  truncate(size: number): void {
    this.data = this.data.subarray(0, size)
  }

  sync(): void {
    this.synced = this.data
  }

  cutPower(random: Random): void {
    const { data, synced } = this
    const isLonger = data.length > synced.length && data.subarray(0, synced.length).equals(synced)
    const survives = isLonger ? random.int(synced.length, data.length) : synced.length
    this.data = isLonger ? data.subarray(0, survives) : synced
    this.synced = this.data
  }
}

type Directory = Map<string, Node>
type Node = File | Directory

/** An error as Node's file system throws it. */
export function fsError(code: string, path: string): NodeJS.ErrnoException {
  return Object.assign(new Error(`${code}: ${path}`), { code })
}

export class Disk {
  private readonly root: Directory = new Map()

  find(path: string): Node | undefined {
    let node: Node | undefined = this.root
    for (const part of partsOf(path)) node = node instanceof Map ? node.get(part) : undefined
    return node
  }

  file(path: string): File {
    const node = this.find(path)
    if (node === undefined) throw fsError('ENOENT', path)
    if (node instanceof Map) throw fsError('EISDIR', path)
    return node
  }

  directory(path: string): Directory {
    const node = this.find(path)
    if (node === undefined) throw fsError('ENOENT', path)
    if (!(node instanceof Map)) throw fsError('ENOTDIR', path)
    return node
  }

  create(path: string, nowMs: number): File {
    const file = new File(nowMs)
    this.directory(dirname(path)).set(nameOf(path), file)
    return file
  }

  /** True when something was made. */
  makeDirectories(path: string): boolean {
    let made = false
    let at: Directory = this.root
    for (const part of partsOf(path)) {
      let next = at.get(part)
      if (next === undefined) {
        next = new Map()
        at.set(part, next)
        made = true
      }
      if (!(next instanceof Map)) throw fsError('ENOTDIR', path)
      at = next
    }
    return made
  }

  rename(from: string, to: string): void {
    const node = this.find(from)
    if (node === undefined) throw fsError('ENOENT', from)
    this.directory(dirname(to)).set(nameOf(to), node)
    this.directory(dirname(from)).delete(nameOf(from))
  }

  remove(path: string, { force = false, recursive = false } = {}): void {
    const node = this.find(path)
    if (node === undefined) {
      if (force) return
      throw fsError('ENOENT', path)
    }
    if (node instanceof Map && node.size > 0 && !recursive) throw fsError('ENOTEMPTY', path)
    this.directory(dirname(path)).delete(nameOf(path))
  }

  cutPower(random: Random, at: Directory = this.root): void {
    for (const node of at.values()) {
      if (node instanceof Map) this.cutPower(random, node)
      else node.cutPower(random)
    }
  }
}

function partsOf(path: string): string[] {
  return path.split('/').filter(Boolean)
}

function nameOf(path: string): string {
  return partsOf(path).at(-1)!
}
