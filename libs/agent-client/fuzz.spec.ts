/**
 * What an agent may say, in any order and cut anywhere, by a peer that has the token: it lives in the sandbox, so it
 * may have been taken over. The worst that it may do is lose its stream; the next one must go on as if nothing was.
 */

import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { connect, type Socket } from 'node:net'
import { join } from 'node:path'
import { expect, test } from '@jest/globals'
import fc from 'fast-check'
import { CONTROL, controlFrames, FrameReader } from './frame.js'
import { dataFrame, HELLO, recordingSession, until } from './testing.js'

const OPEN = {
  handle: 1,
  pid: 5,
  startedAgoMs: 0,
  ended: false,
  stdin: { accepted: 0, limit: 65_536, closed: false },
  stdoutFrom: 0,
  stderrFrom: 0,
}
const EXIT = {
  code: 0,
  signal: null,
  timedOut: false,
  stdoutBytes: 3,
  stderrBytes: 0,
  stdoutComplete: true,
  stderrComplete: true,
  ranMs: 1,
}

const odd = fc.constantFrom(
  null,
  -1,
  0,
  1,
  2,
  2 ** 30,
  2 ** 53,
  1.5,
  '',
  'e',
  '\0',
  '__proto__',
  [],
  {},
  true,
)
/** A message with some of its fields changed, at any depth of one. */
const changed = (message: object) =>
  fc
    .dictionary(fc.constantFrom(...Object.keys(message), '__proto__', 'x'), odd, { maxKeys: 2 })
    .map((changes) => ({ ...message, ...changes }))
const control = fc
  .oneof(
    changed(HELLO),
    changed({ op: 'listed', count: 0 }),
    changed({ op: 'open', exec: 'e', ...OPEN }),
    changed({ op: 'exit', exec: 'e', exit: EXIT }),
    changed(EXIT).map((exit) => ({ op: 'exit', exec: 'e', exit })),
    fc.nat(5).chain((id) => changed({ op: 'done', id, result: { state: 'open', ...OPEN } })),
    fc.nat(5).map((id) => ({ op: 'done', id, result: { state: 'exited', exit: EXIT } })),
    fc.nat(5).map((id) => ({ op: 'refused', id, code: 'X', message: 'no' })),
    fc.dictionary(fc.string(), odd),
  )
  .map((message) => Buffer.concat(controlFrames(message)))
const data = fc
  .tuple(
    fc.nat(3),
    fc.constantFrom(0, 1, 2, 3),
    fc.oneof(fc.nat(10), fc.maxSafeNat()),
    fc.uint8Array({ maxLength: 40 }),
  )
  .map(([handle, stream, offset, bytes]) => dataFrame(handle, stream as 0, offset, bytes))
const bytes = fc.uint8Array({ maxLength: 40 }).map((some) => Buffer.from(some))
const talk = fc.array(
  fc.oneof(
    { weight: 6, arbitrary: control },
    { weight: 3, arbitrary: data },
    { weight: 1, arbitrary: bytes },
  ),
  { minLength: 1, maxLength: 12 },
)

test('whatever an agent says costs it at most its stream', async () => {
  const dir = mkdtempSync('/tmp/sandtrail-fuzz-')
  const path = join(dir, 'agent.sock')
  try {
    await fc.assert(
      fc.asyncProperty(
        talk,
        fc.array(fc.nat(200), { maxLength: 6 }),
        fc.boolean(),
        async (said, cuts, isGreeted) => {
          const { session, spool, losses, exits } = recordingSession(path)
          await session.start()
          try {
            const hostile = await dial(path)
            // Something to confuse with: an exec that was asked for and is not answered yet.
            const asked = isGreeted
              ? greet(hostile).then(() => session.exec({ execId: 'e', argv: ['x'], stdin: 'open' }, 500))
              : null
            asked?.catch(() => {})
            if (isGreeted) await until(() => session.isConnected)
            for (const piece of cutAt(Buffer.concat(said), cuts)) hostile.write(piece)
            hostile.end()
            await until(() => hostile.closed)

            const honest = await dial(path)
            await greet(honest)
            await until(() => session.isConnected)
            await session.ping(5_000)
            honest.destroy()
            for (const { code, message } of losses) {
              expect(code).toMatch(/^[A-Z_]+$/)
              expect(message).not.toMatch(/\p{Cc}/u)
            }
            expect(spool.faults).toEqual([])
            expect(exits.length).toBeLessThanOrEqual(1)
          } finally {
            await session.stop()
          }
        },
      ),
      { numRuns: 300, interruptAfterTimeLimit: 20_000, markInterruptAsFailure: false },
    )
  } finally {
    rmSync(dir, { recursive: true })
  }
}, 60_000)

async function dial(path: string): Promise<Socket> {
  const socket = connect(path)
  // The session may hang up in the middle of a write.
  socket.on('error', () => {})
  await once(socket, 'connect')
  return socket
}

/** Lets itself be known, lists nothing and answers pings. */
async function greet(socket: Socket): Promise<void> {
  const reader = new FrameReader()
  const greeted = Promise.withResolvers<void>()
  socket.on('data', (chunk: Buffer) => {
    for (const { channel, payload } of reader.push(chunk)) {
      if (channel !== CONTROL) continue
      const { op, id } = JSON.parse(payload.toString()) as { op: string; id: number }
      if (op === 'hello') greeted.resolve()
      if (op === 'ping') socket.write(Buffer.concat(controlFrames({ op: 'done', id, result: {} })))
    }
  })
  socket.write(Buffer.concat(controlFrames(HELLO)))
  await greeted.promise
  socket.write(Buffer.concat(controlFrames({ op: 'listed', count: 0 })))
}

function cutAt(bytes: Buffer, cuts: number[]): Buffer[] {
  const at = [0, ...cuts.map((cut) => Math.min(cut, bytes.length)).sort((a, b) => a - b), bytes.length]
  return at.slice(1).map((end, i) => bytes.subarray(at[i], end))
}
