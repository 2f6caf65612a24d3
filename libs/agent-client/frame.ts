/**
 * Frames: how both sides cut the byte stream. `len: u32 | channel: u32 | payload`, little endian; `len` counts what
 * follows it. The two low bits of a channel name the stream, the rest the exec's handle; handle 0 is control.
 *
 * Parsing depends on the bytes alone: any split of them gives the same frames.
 */

import { ProtocolViolation } from './violation.js'

/** Most data bytes of one frame. */
export const DATA_MAX = 64 * 1024
const CHANNEL_SIZE = 4
const HEADER_MAX = 64
/** Most that `len` may say. */
export const BODY_MAX = DATA_MAX + HEADER_MAX

/** A whole JSON message, or the last piece of one. */
export const CONTROL = 0
/** A piece of a JSON message that goes on in the next control frame. Only the host sends such. */
export const CONTROL_PART = 1

export const STDIN = 0
export const STDOUT = 1
export const STDERR = 2
export type StreamNumber = typeof STDIN | typeof STDOUT | typeof STDERR

export interface Frame {
  channel: number
  /** Shares memory with the chunk that it came in. */
  payload: Buffer
}

export class FrameReader {
  private rest: Buffer = Buffer.alloc(0)

  /** Takes a chunk and returns the frames that are whole now. @throws ProtocolViolation for an impossible length. */
  push(chunk: Buffer): Frame[] {
    const bytes = this.rest.length === 0 ? chunk : Buffer.concat([this.rest, chunk])
    const frames: Frame[] = []
    let at = 0
    while (bytes.length - at >= 4) {
      const length = bytes.readUInt32LE(at)
      // Checked before waiting for the body: a liar cannot make us buffer without end.
      if (length < CHANNEL_SIZE || length > BODY_MAX) {
        throw new ProtocolViolation('BAD_LENGTH', `a frame says ${length} bytes`)
      }
      const end = at + 4 + length
      if (end > bytes.length) break
      frames.push({ channel: bytes.readUInt32LE(at + 4), payload: bytes.subarray(at + 8, end) })
      at = end
    }
    this.rest = bytes.subarray(at)
    return frames
  }

  /** Whether the bytes so far end within a frame. */
  get isInside(): boolean {
    return this.rest.length > 0
  }
}

/** The bytes in front of a payload of `payloadLength` bytes. */
export function frameHeader(channel: number, payloadLength: number): Buffer {
  const header = Buffer.allocUnsafe(8)
  header.writeUInt32LE(CHANNEL_SIZE + payloadLength, 0)
  header.writeUInt32LE(channel, 4)
  return header
}

/** One JSON message as one frame, or as pieces where it is long. */
export function controlFrames(message: object): Buffer[] {
  const text = Buffer.from(JSON.stringify(message))
  const parts: Buffer[] = []
  for (let at = 0; at === 0 || at < text.length; at += DATA_MAX) {
    const piece = text.subarray(at, at + DATA_MAX)
    const isLast = at + DATA_MAX >= text.length
    parts.push(frameHeader(isLast ? CONTROL : CONTROL_PART, piece.length), piece)
  }
  return parts
}

export function dataChannel(handle: number, stream: StreamNumber): number {
  // Not by shifts: those are signed, and a handle has up to 30 bits.
  return handle * 4 + stream
}

/** The exec's handle and the stream of a data channel; null for any other channel. */
export function splitChannel(channel: number): { handle: number; stream: StreamNumber } | null {
  const stream = channel % 4
  const handle = Math.floor(channel / 4)
  if (handle === 0 || stream === 3) return null
  return { handle, stream: stream as StreamNumber }
}

/** @throws ProtocolViolation for an offset that no stream can reach. */
export function readOffset(payload: Buffer, at: number): number {
  const offset = payload.length >= at + 8 ? payload.readBigUInt64LE(at) : null
  if (offset === null || offset > BigInt(Number.MAX_SAFE_INTEGER)) {
    throw new ProtocolViolation('BAD_OFFSET', 'a data frame has no possible offset')
  }
  return Number(offset)
}

export function offsetBytes(offset: number): Buffer {
  const bytes = Buffer.allocUnsafe(8)
  bytes.writeBigUInt64LE(BigInt(offset))
  return bytes
}
