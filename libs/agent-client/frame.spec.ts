import { expect, test } from '@jest/globals'
import fc from 'fast-check'
import {
  BODY_MAX,
  CONTROL,
  CONTROL_PART,
  controlFrames,
  DATA_MAX,
  dataChannel,
  type Frame,
  FrameReader,
  frameHeader,
  offsetBytes,
  readOffset,
  STDERR,
  STDIN,
  STDOUT,
  splitChannel,
} from './frame.js'
import { parseExecState, parseMessage, parseMounts } from './messages.js'
import { ProtocolViolation } from './violation.js'

const plain = (frames: Frame[]) => frames.map(({ channel, payload }) => [channel, payload.toString('hex')])

test('any split of the bytes gives the same frames', () => {
  const frame = fc.record({
    channel: fc.integer({ min: 0, max: 2 ** 32 - 1 }),
    payload: fc.uint8Array({ maxLength: 300 }),
  })
  fc.assert(
    fc.property(
      fc.array(frame, { maxLength: 10 }),
      fc.array(fc.nat(400), { minLength: 1 }),
      (frames, cuts) => {
        const wire = Buffer.concat(
          frames.flatMap(({ channel, payload }) => [
            frameHeader(channel, payload.length),
            Buffer.from(payload),
          ]),
        )
        const reader = new FrameReader()
        const found: Frame[] = []
        for (let at = 0, n = 0; at < wire.length; n++) {
          const size = cuts[n % cuts.length]! + 1
          found.push(...reader.push(wire.subarray(at, at + size)))
          at += size
        }
        expect(plain(found)).toEqual(
          frames.map(({ channel, payload }) => [channel, Buffer.from(payload).toString('hex')]),
        )
        expect(reader.isInside).toBe(false)
      },
    ),
  )
})

test.each([0, 3, BODY_MAX + 1, 2 ** 32 - 1])('a length of %d is refused before its body came', (length) => {
  const header = Buffer.alloc(4)
  header.writeUInt32LE(length)
  expect(() => new FrameReader().push(header)).toThrow(ProtocolViolation)
})

test('a long message goes in pieces that are the message', () => {
  const message = { text: 'ä'.repeat(DATA_MAX) }
  const frames = new FrameReader().push(Buffer.concat(controlFrames(message)))
  expect(frames.map(({ channel }) => channel)).toEqual([CONTROL_PART, CONTROL_PART, CONTROL])
  expect(JSON.parse(Buffer.concat(frames.map(({ payload }) => payload)).toString())).toEqual(message)
})

test('a channel names handle and stream', () => {
  for (const handle of [1, 7, 2 ** 30 - 1]) {
    for (const stream of [STDIN, STDOUT, STDERR] as const) {
      expect(splitChannel(dataChannel(handle, stream))).toEqual({ handle, stream })
    }
  }
  for (const channel of [0, 1, 2, 3, 7]) expect(splitChannel(channel)).toBeNull()
})

test('an offset that no stream can reach is refused', () => {
  expect(readOffset(offsetBytes(Number.MAX_SAFE_INTEGER), 0)).toBe(Number.MAX_SAFE_INTEGER)
  expect(() => readOffset(Buffer.alloc(7), 0)).toThrow(ProtocolViolation)
  expect(() => readOffset(Buffer.alloc(8, 0xff), 0)).toThrow(ProtocolViolation)
})

test('whatever JSON comes is a message or a violation', () => {
  const parsers = [
    (value: unknown) => parseMessage(Buffer.from(JSON.stringify(value) ?? '')),
    parseExecState,
    parseMounts,
  ]
  const words = fc.constantFrom(
    'hello',
    'open',
    'exit',
    'done',
    'refused',
    'exited',
    'failed',
    'unknown',
    'listed',
  )
  const fields = fc.dictionary(
    fc.constantFrom(
      'op',
      'id',
      'exec',
      'exit',
      'code',
      'signal',
      'state',
      'stdin',
      'handle',
      'pid',
      '__proto__',
      'mounts',
    ),
    fc.oneof(words, fc.jsonValue(), fc.double(), fc.nat()),
  )
  fc.assert(
    fc.property(fc.oneof(fields, fc.jsonValue()), (value) => {
      for (const parse of parsers) {
        try {
          parse(value)
        } catch (error) {
          expect(error).toBeInstanceOf(ProtocolViolation)
        }
      }
    }),
    { numRuns: 2_000 },
  )
})

test('text from inside is fit for a terminal', () => {
  const message = `a\u001b[31mred\u202e\n${'x'.repeat(2_000)}`
  const refused = parseMessage(Buffer.from(JSON.stringify({ op: 'refused', id: 1, code: 'X', message })))
  expect(refused).toMatchObject({ message: expect.stringMatching(/^a\?\[31mred\?\?x{1,600}$/) })
})

test.each([
  { code: null, signal: null },
  { code: 1, signal: 9 },
  { code: 256, signal: null },
  { code: null, signal: 65 },
  { code: -1, signal: null },
  { stdoutBytes: 2 ** 53 },
  { stdoutBytes: -1 },
  { stdoutComplete: 'yes' },
])('an exit with %j is refused', (wrong) => {
  const exit = {
    code: 0,
    signal: null,
    timedOut: false,
    stdoutBytes: 0,
    stderrBytes: 0,
    stdoutComplete: true,
    stderrComplete: true,
    ranMs: 1,
  }
  expect(parseExecState({ state: 'exited', exit })).toEqual({ state: 'exited', exit })
  expect(() => parseExecState({ state: 'exited', exit: { ...exit, ...wrong } })).toThrow(ProtocolViolation)
})
