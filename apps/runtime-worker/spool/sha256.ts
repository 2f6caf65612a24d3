/**
 * SHA-256 (FIPS 180-4) whose state can be kept between 64-byte blocks: Node's own cannot be saved, and the event of an
 * exec's exit wants the digest of every byte, also of those dropped before a restart. Used only for what is about to
 * be dropped and after such a restart: it is about seven times slower than the native one.
 */

const K = new Uint32Array(64)
const INITIAL = new Uint32Array(8)
const BLOCK = 64

/** The first 32 bits of the fractional parts of cube roots (K) and square roots (INITIAL) of the first primes. */
function fillConstants(): void {
  const fraction = (x: number) => Math.floor((x - Math.floor(x)) * 2 ** 32)
  let found = 0
  for (let candidate = 2; found < 64; candidate++) {
    let prime = true
    for (let d = 2; d * d <= candidate; d++) if (candidate % d === 0) prime = false
    if (!prime) continue
    if (found < 8) INITIAL[found] = fraction(Math.sqrt(candidate))
    K[found++] = fraction(Math.cbrt(candidate))
  }
}
fillConstants()

export interface Sha256State {
  /** Bytes hashed so far, a multiple of 64. */
  bytes: number
  words: number[]
}

export class Sha256 {
  private readonly words: Uint32Array
  private readonly schedule = new Uint32Array(64)
  private rest = Buffer.alloc(0)
  private bytes: number

  constructor(state: Sha256State = { bytes: 0, words: [...INITIAL] }) {
    this.words = Uint32Array.from(state.words)
    this.bytes = state.bytes
  }

  update(data: Buffer): this {
    this.bytes += data.length
    let input = this.rest.length > 0 ? Buffer.concat([this.rest, data]) : data
    const whole = input.length - (input.length % BLOCK)
    for (let at = 0; at < whole; at += BLOCK) this.compress(input, at)
    input = input.subarray(whole)
    this.rest = Buffer.from(input)
    return this
  }

  /** @throws RangeError between two blocks. */
  save(): Sha256State {
    if (this.rest.length > 0) throw new RangeError('the state can be kept only after whole blocks')
    return { bytes: this.bytes, words: [...this.words] }
  }

  /** Hex. Nothing may follow. */
  digest(): string {
    const bits = BigInt(this.bytes) * 8n
    const padding = Buffer.alloc(this.rest.length < 56 ? 64 - this.rest.length : 128 - this.rest.length)
    padding[0] = 0x80
    padding.writeBigUInt64BE(bits, padding.length - 8)
    this.update(padding)
    return [...this.words].map((word) => word.toString(16).padStart(8, '0')).join('')
  }

  private compress(input: Buffer, at: number): void {
    const w = this.schedule
    for (let i = 0; i < 16; i++) {
      const p = at + i * 4
      w[i] = (input[p]! << 24) | (input[p + 1]! << 16) | (input[p + 2]! << 8) | input[p + 3]!
    }
    for (let i = 16; i < 64; i++) {
      const x = w[i - 15]!
      const y = w[i - 2]!
      const s0 = ((x >>> 7) | (x << 25)) ^ ((x >>> 18) | (x << 14)) ^ (x >>> 3)
      const s1 = ((y >>> 17) | (y << 15)) ^ ((y >>> 19) | (y << 13)) ^ (y >>> 10)
      w[i] = (w[i - 16]! + s0 + w[i - 7]! + s1) | 0
    }
    this.rounds(w)
  }

  private rounds(w: Uint32Array): void {
    const state = this.words
    let a = state[0]! | 0
    let b = state[1]! | 0
    let c = state[2]! | 0
    let d = state[3]! | 0
    let e = state[4]! | 0
    let f = state[5]! | 0
    let g = state[6]! | 0
    let h = state[7]! | 0
    for (let i = 0; i < 64; i++) {
      const s1 = ((e >>> 6) | (e << 26)) ^ ((e >>> 11) | (e << 21)) ^ ((e >>> 25) | (e << 7))
      const t1 = (h + s1 + ((e & f) ^ (~e & g)) + K[i]! + w[i]!) | 0
      const s0 = ((a >>> 2) | (a << 30)) ^ ((a >>> 13) | (a << 19)) ^ ((a >>> 22) | (a << 10))
      const t2 = (s0 + ((a & b) ^ (a & c) ^ (b & c))) | 0
      h = g
      g = f
      f = e
      e = (d + t1) | 0
      d = c
      c = b
      b = a
      a = (t1 + t2) | 0
    }
    state[0] = state[0]! + a
    state[1] = state[1]! + b
    state[2] = state[2]! + c
    state[3] = state[3]! + d
    state[4] = state[4]! + e
    state[5] = state[5]! + f
    state[6] = state[6]! + g
    state[7] = state[7]! + h
  }
}
