/**
 * A disk with a volatile write cache, as an NBD server on a Unix socket: what was written reaches the file only with a
 * flush (or a write with FUA). `cut` is the loss of power: of what was not flushed each block is lost or not, by lot, as
 * a real disk writes its cache back in whatever order it likes.
 *
 * The protocol: https://github.com/NetworkBlockDevice/nbd/blob/master/doc/proto.md, fixed newstyle, simple replies.
 */

import { closeSync, fstatSync, openSync, readSync, writeSync } from 'node:fs'
import { createServer, type Server, type Socket } from 'node:net'
import type { Random } from '../faults/random.js'

/** Bytes that a disk writes as one: its sector. None is torn. */
const BLOCK = 4096

const [OPTION_ABORT, OPTION_GO] = [2, 7]
const [REPLY_ACK, REPLY_INFO, REPLY_UNSUPPORTED] = [1, 3, 2 ** 31 + 1]
/** The client may flush, and may ask for single writes to be on the disk before their reply. */
const FLAGS = 1 | 4 | 8
const [READ, WRITE, DISCONNECT, FLUSH] = [0, 1, 2, 3]
const FUA = 1
const EINVAL = 22

export interface Cut {
  /** Blocks that were written and not flushed, and are gone. */
  lost: number
  /** The same, and on the disk by luck. */
  kept: number
}

export class VolatileDisk {
  writes = 0
  flushes = 0
  private readonly file: number
  private readonly bytes: number
  /** Written, not flushed: by number of block. */
  private cache = new Map<number, Buffer>()
  private server: Server | null = null
  private readonly clients = new Set<Socket>()

  constructor(
    path: string,
    private readonly random: Random,
  ) {
    this.file = openSync(path, 'r+')
    this.bytes = fstatSync(this.file).size
  }

  async listen(socketPath: string): Promise<void> {
    this.server = createServer((socket) => {
      this.clients.add(socket)
      socket.on('error', () => {}) // A client that was killed.
      socket.on('close', () => this.clients.delete(socket))
      void this.serve(socket)
        .catch(() => {})
        .finally(() => socket.destroy())
    })
    await new Promise<void>((resolve) => this.server!.listen(socketPath, resolve))
  }

  /** Once whoever wrote is dead. */
  cut(): Cut {
    for (const socket of this.clients) socket.destroy()
    const unflushed = [...this.cache]
    this.cache = new Map()
    const lucky = unflushed.filter(() => this.random.next() < 0.5)
    for (const [block, data] of lucky) writeSync(this.file, data, 0, data.length, block * BLOCK)
    return { lost: unflushed.length - lucky.length, kept: lucky.length }
  }

  async close(): Promise<void> {
    for (const socket of this.clients) socket.destroy()
    await new Promise((resolve) => (this.server ? this.server.close(resolve) : resolve(null)))
    closeSync(this.file)
  }

  private async serve(socket: Socket): Promise<void> {
    const input = new Input(socket)
    const hello = Buffer.alloc(18)
    hello.write('NBDMAGICIHAVEOPT')
    hello.writeUInt16BE(1 | 2, 16) // Fixed newstyle, no zeroes after the negotiation.
    socket.write(hello)
    await input.take(4)
    if (!(await this.negotiate(socket, input))) return
    for (;;) {
      const request = await input.take(28)
      const [flags, type] = [request.readUInt16BE(4), request.readUInt16BE(6)]
      const [offset, length] = [Number(request.readBigUInt64BE(16)), request.readUInt32BE(24)]
      if (type === DISCONNECT) return
      const data = type === WRITE ? await input.take(length) : null
      const answer = this.carryOut(type, offset, length, data, (flags & FUA) !== 0)
      const reply = Buffer.alloc(16)
      reply.writeUInt32BE(0x67446698)
      reply.writeUInt32BE(answer === null ? EINVAL : 0, 4)
      request.copy(reply, 8, 8, 16) // The request's cookie.
      socket.write(reply)
      if (answer !== null && answer.length > 0) socket.write(answer)
    }
  }

  private async negotiate(socket: Socket, input: Input): Promise<boolean> {
    for (;;) {
      const header = await input.take(16)
      const option = header.readUInt32BE(8)
      await input.take(header.readUInt32BE(12))
      const reply = (type: number, data = Buffer.alloc(0)) => {
        const head = Buffer.alloc(20)
        head.writeBigUInt64BE(0x3e889045565a9n)
        head.writeUInt32BE(option, 8)
        head.writeUInt32BE(type, 12)
        head.writeUInt32BE(data.length, 16)
        socket.write(Buffer.concat([head, data]))
      }
      if (option === OPTION_GO) {
        const info = Buffer.alloc(12)
        info.writeBigUInt64BE(BigInt(this.bytes), 2)
        info.writeUInt16BE(FLAGS, 10)
        reply(REPLY_INFO, info)
      }
      reply(option === OPTION_GO || option === OPTION_ABORT ? REPLY_ACK : REPLY_UNSUPPORTED)
      if (option === OPTION_GO) return true
      if (option === OPTION_ABORT) return false
    }
  }

  /** What was read, nothing, or null: refused. */
  private carryOut(
    type: number,
    offset: number,
    length: number,
    data: Buffer | null,
    fua: boolean,
  ): Buffer | null {
    if (type !== FLUSH && offset + length > this.bytes) return null
    if (type === READ) return this.read(offset, length)
    if (type === FLUSH) {
      this.flushes += 1
      this.writeBack([...this.cache.keys()])
      return Buffer.alloc(0)
    }
    if (data === null) return null
    this.writes += 1
    this.write(offset, data, fua)
    return Buffer.alloc(0)
  }

  private read(offset: number, length: number): Buffer {
    const result = Buffer.allocUnsafe(length)
    for (const { block, from, at, bytes } of piecesOf(offset, length)) {
      this.block(block).copy(result, at, from, from + bytes)
    }
    return result
  }

  private write(offset: number, data: Buffer, fua: boolean): void {
    const pieces = piecesOf(offset, data.length)
    for (const { block, from, at, bytes } of pieces) {
      // Never changed in place: it may be the one that is just being read.
      const content = Buffer.from(this.block(block))
      data.copy(content, from, at, at + bytes)
      this.cache.set(block, content)
    }
    if (fua) this.writeBack(pieces.map(({ block }) => block))
  }

  private block(block: number): Buffer {
    const cached = this.cache.get(block)
    if (cached !== undefined) return cached
    const content = Buffer.alloc(BLOCK)
    readSync(this.file, content, 0, BLOCK, block * BLOCK)
    return content
  }

  private writeBack(blocks: readonly number[]): void {
    for (const block of blocks) {
      const data = this.cache.get(block)!
      writeSync(this.file, data, 0, BLOCK, block * BLOCK)
      this.cache.delete(block)
    }
  }
}

/** A stretch of the disk, block by block; `from`: within the block, `at`: within the stretch. */
function piecesOf(offset: number, length: number) {
  const pieces: { block: number; from: number; at: number; bytes: number }[] = []
  for (let at = 0; at < length; ) {
    const from = (offset + at) % BLOCK
    const bytes = Math.min(BLOCK - from, length - at)
    pieces.push({ block: Math.floor((offset + at) / BLOCK), from, at, bytes })
    at += bytes
  }
  return pieces
}

/** Exactly as many bytes as one asks for. */
class Input {
  private readonly incoming: AsyncIterator<Buffer>
  private rest: Buffer = Buffer.alloc(0)

  constructor(socket: Socket) {
    this.incoming = socket[Symbol.asyncIterator]()
  }

  async take(bytes: number): Promise<Buffer> {
    const chunks = [this.rest]
    let have = this.rest.length
    while (have < bytes) {
      const { value, done } = await this.incoming.next()
      if (done) throw new Error('the client has gone')
      chunks.push(value)
      have += value.length
    }
    const all = chunks.length === 1 ? chunks[0]! : Buffer.concat(chunks)
    this.rest = all.subarray(bytes)
    return all.subarray(0, bytes)
  }
}
