/**
 * Output of a program for the terminal of whoever looks at it later: text, line breaks and colours. Everything else that
 * would drive the terminal is left out: titles, the clipboard (OSC 52), links that lie (OSC 8), moves of windows and
 * cursor, and questions (DA, DECRQSS) whose answers the terminal would type into the shell.
 */

import { Transform, type TransformCallback } from 'node:stream'

const [TAB, LINE_FEED, RETURN, ESCAPE, BELL] = [0x09, 0x0a, 0x0d, 0x1b, 0x07]
/** Longer sequences of colours are none. */
const SEQUENCE_MAX = 64
/** What begins a text that goes on to its terminator: DCS, SOS, OSC, PM, APC. */
const STRINGS = new Set([...'PX]^_'].map((character) => character.charCodeAt(0)))
const COLOUR = /^\[[0-9;:]*m$/

type State = 'text' | 'escape' | 'intermediate' | 'csi' | 'string' | 'string-escape' | 'utf8'

/** Keeps its place between chunks: any split of the bytes gives the same. */
export class Harmless extends Transform {
  private state: State = 'text'
  private sequence = ''
  /** Bytes that the character begun by a lead byte still needs. */
  private due = 0

  override _transform(chunk: Buffer, _encoding: BufferEncoding, done: TransformCallback): void {
    const kept: number[] = []
    for (const byte of chunk) this.see(byte, kept)
    done(null, Buffer.from(kept))
  }

  private see(byte: number, kept: number[]): void {
    switch (this.state) {
      case 'text':
        if (this.due > 0 && byte >= 0x80 && byte <= 0xbf) {
          this.due -= 1
          kept.push(byte)
          return
        }
        this.due = continuationsOf(byte)
        // A C1 control that is no part of a character: a terminal of eight bits obeys it.
        if (byte >= 0x80 && byte <= 0x9f) return
        if (byte === ESCAPE) this.state = 'escape'
        // Its second byte tells whether it is a C1 control: 0x9b is another way to say ESC [.
        else if (byte === 0xc2) this.state = 'utf8'
        else if ((byte >= 0x20 && byte !== 0x7f) || byte === TAB || byte === LINE_FEED || byte === RETURN) {
          kept.push(byte)
        }
        return
      case 'utf8':
        this.state = 'text'
        if (byte >= 0xa0 && byte <= 0xbf) kept.push(0xc2, byte)
        else if (byte < 0x80 || byte > 0xbf) this.see(byte, kept)
        return
      case 'escape':
        if (byte === 0x5b) {
          this.sequence = '['
          this.state = 'csi'
        } else if (STRINGS.has(byte)) this.state = 'string'
        else if (byte >= 0x20 && byte <= 0x2f) this.state = 'intermediate'
        else this.state = byte === ESCAPE ? 'escape' : 'text'
        return
      case 'intermediate':
        if (byte < 0x20 || byte > 0x2f) this.state = byte === ESCAPE ? 'escape' : 'text'
        return
      case 'csi':
        this.seeInSequence(byte, kept)
        return
      case 'string':
        if (byte === BELL) this.state = 'text'
        else if (byte === ESCAPE) this.state = 'string-escape'
        return
      case 'string-escape':
        this.state = byte === 0x5c ? 'text' : byte === ESCAPE ? 'string-escape' : 'string'
    }
  }

  private seeInSequence(byte: number, kept: number[]): void {
    if (byte === ESCAPE) {
      this.state = 'escape'
      return
    }
    if (this.sequence.length < SEQUENCE_MAX) this.sequence += String.fromCharCode(byte)
    if (byte < 0x40 || byte > 0x7e) return
    if (COLOUR.test(this.sequence)) kept.push(ESCAPE, ...Buffer.from(this.sequence, 'latin1'))
    this.state = 'text'
  }
}

/** How many bytes follow this one in UTF-8. 0xc2 has a state of its own. */
function continuationsOf(byte: number): number {
  if (byte >= 0xc3 && byte <= 0xdf) return 1
  if (byte >= 0xe0 && byte <= 0xef) return 2
  return byte >= 0xf0 && byte <= 0xf4 ? 3 : 0
}
