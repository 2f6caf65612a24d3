/** A peer that plays the agent by hand, and plays it wrong. Only sockets of this process are involved. */

import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { connect, type Socket } from 'node:net'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from '@jest/globals'
import {
  CONTROL,
  controlFrames,
  dataChannel,
  FrameReader,
  frameHeader,
  offsetBytes,
  STDERR,
  STDIN,
  STDOUT,
} from './frame.js'
import { type AgentExit, AgentSession, type Disconnection, OUTPUT_WINDOW } from './index.js'
import { dataFrame, HELLO, type MemorySpool, recordingSession, silent, TOKEN, until } from './testing.js'

/** An agent in name only. */
class Peer {
  readonly messages: Record<string, unknown>[] = []
  readonly acks: number[] = []
  closed = false
  private constructor(readonly socket: Socket) {
    const reader = new FrameReader()
    socket.on('data', (chunk: Buffer) => {
      for (const { channel, payload } of reader.push(chunk)) {
        if (channel === CONTROL) this.messages.push(JSON.parse(payload.toString()))
        else if (payload.length === 8) this.acks.push(Number(payload.readBigUInt64LE()))
      }
    })
    socket.on('error', () => {})
    socket.on('close', () => {
      this.closed = true
    })
  }

  static async connect(path: string): Promise<Peer> {
    const socket = connect(path)
    await once(socket, 'connect')
    return new Peer(socket)
  }

  say(message: object): void {
    this.write(Buffer.concat(controlFrames(message)))
  }

  data(handle: number, stream: 0 | 1 | 2, offset: number, bytes: Buffer): void {
    this.write(dataFrame(handle, stream, offset, bytes))
  }

  write(bytes: Buffer): void {
    this.socket.write(bytes)
  }

  async heard(op: string): Promise<Record<string, unknown>> {
    await until(() => this.messages.some((message) => message.op === op))
    return this.messages.find((message) => message.op === op)!
  }
}

const EXIT: AgentExit = {
  code: 0,
  signal: null,
  timedOut: false,
  stdoutBytes: 0,
  stderrBytes: 0,
  stdoutComplete: true,
  stderrComplete: true,
  ranMs: 1,
}
const OPEN = {
  state: 'open',
  handle: 1,
  pid: 5,
  startedAgoMs: 0,
  ended: false,
  stdin: { accepted: 0, limit: 65_536, closed: false },
  stdoutFrom: 0,
  stderrFrom: 0,
}

let dir: string
let path: string
let session: AgentSession
let spool: MemorySpool
let losses: Disconnection[]
let exits: string[]

beforeEach(async () => {
  dir = mkdtempSync('/tmp/sandtrail-hostile-')
  path = join(dir, 'agent.sock')
  ;({ session, spool, losses, exits } = recordingSession(path))
  await session.start()
  await session.start()
})

afterEach(async () => {
  await session.stop()
  await session.stop()
  rmSync(dir, { recursive: true })
  expect(spool.faults).toEqual([])
})

/** Connects, is let in and has listed nothing. */
async function agent(): Promise<Peer> {
  const peer = await Peer.connect(path)
  peer.say(HELLO)
  await peer.heard('hello')
  peer.say({ op: 'listed', count: 0 })
  await until(() => session.isConnected)
  return peer
}

/** An agent on which exec `e` is open with handle 1. */
async function agentWithExec(): Promise<Peer> {
  const peer = await agent()
  const started = session.exec({ execId: 'e', argv: ['true'], stdin: 'open' })
  const { id } = await peer.heard('exec')
  peer.say({ op: 'done', id, result: OPEN })
  expect(await started).toEqual({ state: 'started', pid: 5, startedAgoMs: 0 })
  return peer
}

test.each<[string, (peer: Peer) => void]>([
  ['a wrong token', (peer) => peer.say({ ...HELLO, token: `${TOKEN}x` })],
  ['an empty token', (peer) => peer.say({ ...HELLO, token: '' })],
  ['another version', (peer) => peer.say({ ...HELLO, protocol: 2 })],
  ['another message first', (peer) => peer.say({ op: 'listed' })],
  ['data first', (peer) => peer.data(1, STDOUT, 0, Buffer.from('x'))],
  ['no JSON', (peer) => peer.write(Buffer.concat([frameHeader(CONTROL, 2), Buffer.from('{]')]))],
  ['an endless frame', (peer) => peer.write(Buffer.alloc(64, 0xff))],
  [
    'more than a hello',
    (peer) => peer.write(Buffer.concat([...controlFrames(HELLO), ...controlFrames(HELLO)])),
  ],
  ['http', (peer) => peer.write(Buffer.from('GET / HTTP/1.1\r\n\r\n'))],
])('a peer that begins with %s is sent away, and the agent does not notice', async (_, begin) => {
  const honest = await agent()
  const peer = await Peer.connect(path)
  begin(peer)
  await until(() => peer.closed)
  expect(peer.messages).toEqual([])
  expect(honest.closed).toBe(false)
  expect(session.isConnected).toBe(true)
  expect(losses).toEqual([])
})

test('a peer that says nothing is sent away after 2 s, a crowd of them at once but for a few', async () => {
  const honest = await agent()
  const began = Date.now()
  const crowd = await Promise.all(Array.from({ length: 40 }, () => Peer.connect(path)))
  await until(() => crowd.filter((peer) => peer.closed).length >= 32)
  const late = await Peer.connect(path)
  await until(() => late.closed)
  expect(Date.now() - began).toBeGreaterThan(1_900)
  expect(crowd.every((peer) => peer.closed)).toBe(true)
  expect(honest.closed).toBe(false)
})

test('the agent gets in through a crowd, and its new stream replaces the old one', async () => {
  const first = await agent()
  await Promise.all(Array.from({ length: 20 }, () => Peer.connect(path)))
  const second = await Peer.connect(path)
  second.say(HELLO)
  await second.heard('hello')
  await until(() => first.closed)
  await until(() => losses.length === 1)
  expect(losses[0]).toMatchObject({ code: 'REPLACED' })
  second.say({ op: 'listed', count: 0 })
  await until(() => session.isConnected)
})

test.each<[string, string, (peer: Peer) => void]>([
  ['a second hello', 'UNEXPECTED', (peer) => peer.say(HELLO)],
  ['a second list', 'UNEXPECTED', (peer) => peer.say({ op: 'listed' })],
  ['an exec after the list', 'UNEXPECTED', (peer) => peer.say({ op: 'open', exec: 'x', ...OPEN })],
  ['an answer to nothing', 'UNEXPECTED', (peer) => peer.say({ op: 'done', id: 999, result: {} })],
  ['a piece of a message', 'UNEXPECTED', (peer) => peer.write(frameHeader(1, 0))],
  ['an unknown message', 'BAD_MESSAGE', (peer) => peer.say({ op: 'nope' })],
  ['a message of the wrong shape', 'BAD_MESSAGE', (peer) => peer.say({ op: 'exit', exec: 5 })],
  [
    'deep JSON',
    'BAD_MESSAGE',
    (peer) => peer.write(Buffer.concat([frameHeader(CONTROL, 60_000), Buffer.alloc(60_000, '[')])),
  ],
  ['a gap in the output', 'BAD_OFFSET', (peer) => peer.data(1, STDOUT, 1, Buffer.from('x'))],
  [
    'an impossible offset',
    'BAD_OFFSET',
    (peer) => peer.write(Buffer.concat([frameHeader(dataChannel(1, STDOUT), 8), Buffer.alloc(8, 0xff)])),
  ],
  ['a frame without an offset', 'BAD_OFFSET', (peer) => peer.write(frameHeader(dataChannel(1, STDERR), 0))],
  [
    'an exit with other counts',
    'BAD_OFFSET',
    (peer) => peer.say({ op: 'exit', exec: 'e', exit: { ...EXIT, stdoutBytes: 5 } }),
  ],
  ['stdin that was never sent', 'BAD_OFFSET', (peer) => peer.write(stdinNews(5, 65_536))],
  ['a stdin limit without end', 'BAD_OFFSET', (peer) => peer.write(stdinNews(0, 2 ** 40))],
  ['short news of stdin', 'BAD_MESSAGE', (peer) => peer.write(frameHeader(dataChannel(1, STDIN), 0))],
  ['an impossible length', 'BAD_LENGTH', (peer) => peer.write(Buffer.alloc(4))],
])('%s costs the agent its stream, and the next one goes on', async (_, code, misbehave) => {
  const peer = await agentWithExec()
  misbehave(peer)
  await until(() => losses.length === 1)
  expect(losses[0]).toMatchObject({ code })
  expect(exits).toEqual([])

  const next = await Peer.connect(path)
  next.say(HELLO)
  await next.heard('hello')
  next.say({ op: 'open', exec: 'e', ...OPEN })
  next.say({ op: 'listed', count: 1 })
  expect(await next.heard('resume')).toMatchObject({ exec: 'e', stdout: 0, stderr: 0 })
  next.data(1, STDOUT, 0, Buffer.from('hello'))
  next.say({ op: 'exit', exec: 'e', exit: { ...EXIT, stdoutBytes: 5 } })
  await until(() => exits.length === 1)
  expect(spool.text('e')).toBe('hello')
})

function stdinNews(accepted: number, limit: number): Buffer {
  const header = frameHeader(dataChannel(1, STDIN), 17)
  return Buffer.concat([header, offsetBytes(accepted), offsetBytes(limit), Buffer.alloc(1)])
}

test('more output than the window is not taken while the sink is busy', async () => {
  const release = Promise.withResolvers<void>()
  spool.append = async () => release.promise
  const peer = await agentWithExec()
  const piece = Buffer.alloc(32_768)
  for (let at = 0; at <= OUTPUT_WINDOW; at += piece.length) peer.data(1, STDOUT, at, piece)
  await until(() => losses.length === 1)
  expect(losses[0]).toMatchObject({ code: 'OVERRUN' })
  release.resolve()
})

test('bytes that come twice are taken once, and each is acknowledged when the sink has it', async () => {
  const peer = await agentWithExec()
  peer.data(1, STDOUT, 0, Buffer.from('abc'))
  peer.data(1, STDOUT, 1, Buffer.from('bcde'))
  peer.data(1, STDOUT, 0, Buffer.from('ab'))
  await until(() => peer.acks.at(-1) === 5)
  expect(spool.text('e')).toBe('abcde')
})

test('execs that nobody here asked for are not taken, though the agent offers them', async () => {
  const peer = await Peer.connect(path)
  peer.say(HELLO)
  await peer.heard('hello')
  for (let n = 1; n <= 500; n++) peer.say({ op: 'open', exec: `x${n}`, ...OPEN, handle: n })
  peer.say({ op: 'listed', count: 500 })
  peer.data(7, STDOUT, 0, Buffer.from('mine'))
  peer.say({ op: 'exit', exec: 'x7', exit: { ...EXIT, stdoutBytes: 4 } })
  const ping = session.ping()
  const { id } = await peer.heard('ping')
  peer.say({ op: 'done', id, result: {} })
  await ping
  expect(exits).toEqual([])
  expect(peer.messages.filter(({ op }) => op === 'resume')).toEqual([])
  expect(await spool.durableOffsets()).toEqual({})
})

test('an agent that lists without end is cut off', async () => {
  const peer = await Peer.connect(path)
  peer.say(HELLO)
  await peer.heard('hello')
  for (let n = 1; n <= 2_000; n++) peer.say({ op: 'open', exec: `x${n}`, ...OPEN, handle: n })
  await until(() => losses.length === 1)
  expect(losses[0]).toMatchObject({ code: 'UNEXPECTED' })
})

test('two execs under one handle are refused', async () => {
  const peer = await agentWithExec()
  const second = session.exec({ execId: 'f', argv: ['true'], stdin: 'closed' })
  await until(() => peer.messages.filter(({ op }) => op === 'exec').length === 2)
  peer.say({ op: 'done', id: peer.messages.findLast(({ op }) => op === 'exec')!.id, result: OPEN })
  await expect(second).rejects.toMatchObject({ code: 'AGENT_UNREACHABLE' })
  await until(() => losses.length === 1)
})

test('an answer that comes after its deadline still attaches the exec', async () => {
  const peer = await agent()
  const late = session.exec({ execId: 'e', argv: ['true'], stdin: 'closed' }, 20)
  const { id } = await peer.heard('exec')
  await expect(late).rejects.toMatchObject({ code: 'AGENT_UNREACHABLE' })
  peer.say({ op: 'done', id, result: OPEN })
  peer.data(1, STDOUT, 0, Buffer.from('late'))
  peer.say({ op: 'exit', exec: 'e', exit: { ...EXIT, stdoutBytes: 4 } })
  await until(() => exits.length === 1)
  expect(spool.text('e')).toBe('late')
})

test('a sink that fails is asked again with the same bytes, and the exit waits for it', async () => {
  const append = spool.append.bind(spool)
  let failures = 0
  spool.append = async (...piece) => {
    failures += 1
    if (failures <= 2) throw new Error('disk full')
    await append(...piece)
  }
  const peer = await agentWithExec()
  peer.data(1, STDERR, 0, Buffer.from('kept'))
  peer.say({ op: 'exit', exec: 'e', exit: { ...EXIT, stderrBytes: 4 } })
  await until(() => exits.length === 1)
  expect(spool.text('e', 'stderr')).toBe('kept')
  expect(failures).toBe(3)
})

test('a socket path that is too long is refused at once', () => {
  const options = {
    socketPath: `/tmp/${'x'.repeat(120)}`,
    token: TOKEN,
    sink: spool,
    onExit: () => {},
    log: silent,
  }
  expect(() => new AgentSession(options)).toThrow(/at most 107 bytes/)
})
