/** For tests only: the real agent as a plain process of this host, and a spool in memory. */

import { type ChildProcess, execFileSync, spawn } from 'node:child_process'
import { createHash, type Hash } from 'node:crypto'
import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { dataChannel, frameHeader, offsetBytes, type StreamNumber } from './frame.js'
import type {
  AgentExit,
  AgentLog,
  AgentSessionOptions,
  Disconnection,
  ExecRequest,
  OutputSink,
  OutputStreamName,
} from './index.js'
import { AgentSession } from './session.js'

const AGENT_SOURCES = join(import.meta.dirname, '../../agent')
const TARGET = `${process.arch === 'arm64' ? 'aarch64' : 'x86_64'}-unknown-linux-gnu`
const BUILD_ENV = { RUSTFLAGS: '-C target-feature=+crt-static' }
export const TOKEN = 'a token for tests, 32 bytes long.'

export const silent: AgentLog = { debug() {}, info() {}, warn() {}, error() {} }

/** SANDTRAIL_AGENT names the program; without it the one of this tree is built. */
export function agentProgram(): string {
  if (process.env.SANDTRAIL_AGENT) return process.env.SANDTRAIL_AGENT
  execFileSync('cargo', ['build', '--release', '--locked', '--quiet', '--target', TARGET], {
    cwd: AGENT_SOURCES,
    env: { ...process.env, ...BUILD_ENV },
    stdio: ['ignore', 'ignore', 'inherit'],
  })
  return join(AGENT_SOURCES, 'target', TARGET, 'release/sandtrail-agent')
}

interface Taken {
  hash: Hash
  bytes: number
  head: string
}

/** Counts and hashes what it is given and keeps the first bytes; a piece at a wrong offset is told by `faults`. */
export class MemorySpool implements OutputSink {
  readonly faults: string[] = []
  private readonly taken = new Map<string, Record<OutputStreamName, Taken>>()

  async append(execId: string, stream: OutputStreamName, offset: number, data: Buffer): Promise<void> {
    const taken = this.of(execId)[stream]
    if (offset !== taken.bytes) this.faults.push(`${execId} ${stream}: got ${offset}, wanted ${taken.bytes}`)
    taken.hash.update(data)
    taken.bytes += data.length
    if (taken.head.length < 65_536) taken.head += data.toString('latin1')
  }

  async durableOffsets() {
    const offsets: Record<string, { stdout: number; stderr: number }> = {}
    for (const [id, { stdout, stderr }] of this.taken) {
      offsets[id] = { stdout: stdout.bytes, stderr: stderr.bytes }
    }
    return offsets
  }

  of(execId: string): Record<OutputStreamName, Taken> {
    let taken = this.taken.get(execId)
    if (!taken) {
      const empty = () => ({ hash: createHash('sha256'), bytes: 0, head: '' })
      taken = { stdout: empty(), stderr: empty() }
      this.taken.set(execId, taken)
    }
    return taken
  }

  text(execId: string, stream: OutputStreamName = 'stdout'): string {
    return this.of(execId)[stream].head
  }

  sha256(execId: string, stream: OutputStreamName = 'stdout'): string {
    return this.of(execId)[stream].hash.copy().digest('hex')
  }
}

/** What an agent says first. */
export const HELLO = { op: 'hello', protocol: 1, version: '0', token: TOKEN, boot: 'boot' }

/** A session whose agent the test plays, and all that it tells. */
export function recordingSession(socketPath: string) {
  const spool = new MemorySpool()
  const losses: Disconnection[] = []
  const exits: string[] = []
  const session = new AgentSession({
    socketPath,
    token: TOKEN,
    sink: spool,
    onExit: (execId) => void exits.push(execId),
    onDisconnected: (reason) => losses.push(reason),
    log: silent,
  })
  return { session, spool, losses, exits }
}

/** One frame of an exec's data. */
export function dataFrame(handle: number, stream: StreamNumber, offset: number, bytes: Uint8Array): Buffer {
  return Buffer.concat([
    frameHeader(dataChannel(handle, stream), 8 + bytes.length),
    offsetBytes(offset),
    bytes,
  ])
}

/** Resolves when `check` holds; looks every few milliseconds. @throws when it does not within 30 s. */
export async function until(check: () => boolean | Promise<boolean>): Promise<void> {
  const deadline = Date.now() + 30_000
  while (!(await check())) {
    if (Date.now() > deadline) throw new Error(`not so within 30 s: ${check}`)
    await new Promise((resolve) => setTimeout(resolve, 5))
  }
}

/** One agent, and a session with it that can be replaced like that of a restarted worker. */
export class TestAgent {
  readonly dir = mkdtempSync('/tmp/sandtrail-agent-')
  readonly socketPath = join(this.dir, 'agent.sock')
  readonly spool = new MemorySpool()
  /** Every exit that was told, in order, repetitions included. */
  readonly exits: { execId: string; exit: AgentExit }[] = []
  acknowledges = true
  private readonly waiting = new Map<string, (exit: AgentExit) => void>()
  private process: ChildProcess | null = null
  private current: AgentSession | null = null

  get session(): AgentSession {
    if (!this.current) throw new Error('no session')
    return this.current
  }

  get pid(): number {
    return this.process!.pid!
  }

  async start(): Promise<this> {
    const program = agentProgram()
    await this.newSession()
    const env = { SANDTRAIL_AGENT_TOKEN: TOKEN, SECRET: 'of the agent' }
    this.process = spawn(program, ['--socket', this.socketPath], { env, stdio: 'inherit' })
    await this.session.ping()
    return this
  }

  /** Ends the session and starts another, which knows no more than the spool. */
  async newSession(
    sink: OutputSink = this.spool,
    more: Partial<AgentSessionOptions> = {},
  ): Promise<AgentSession> {
    await this.current?.stop()
    const session = new AgentSession({
      socketPath: this.socketPath,
      token: TOKEN,
      sink,
      onExit: (execId, exit) => {
        this.exits.push({ execId, exit })
        this.waiting.get(execId)?.(exit)
        this.waiting.delete(execId)
        if (this.acknowledges) session.acknowledgeExit(execId)
      },
      log: silent,
      ...more,
    })
    this.current = session
    await session.start()
    return session
  }

  async exit(execId: string): Promise<AgentExit> {
    await until(() => this.exits.some((told) => told.execId === execId))
    return this.exits.find((told) => told.execId === execId)!.exit
  }

  /** The first exit that is told after now, without the delay of looking for it. */
  nextExit(execId: string): Promise<AgentExit> {
    return new Promise((resolve) => this.waiting.set(execId, resolve))
  }

  /** Runs to the end. */
  async run(execId: string, argv: string[], more: Partial<ExecRequest> = {}): Promise<AgentExit> {
    this.spool.of(execId)
    const outcome = await this.session.exec({ execId, argv, stdin: 'closed', ...more })
    if (outcome.state !== 'started') throw new Error(`${execId}: ${JSON.stringify(outcome)}`)
    return await this.exit(execId)
  }

  async stop(): Promise<void> {
    if (this.process && this.process.exitCode === null) {
      const gone = once(this.process, 'exit')
      await this.session.shutdown(0)
      await gone
    }
    await this.current?.stop()
    rmSync(this.dir, { recursive: true, force: true })
  }
}
