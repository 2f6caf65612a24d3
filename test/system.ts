/** A private system for an end-to-end test, and the CLI run against it as a user would. */

import { spawn } from 'node:child_process'
import { randomUUID } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import {
  type Credentials,
  commandHeaders,
  connect,
  type JsonObject,
  type Messaging,
  type SentHeaders,
} from '#libs/messaging'
import { type System, type SystemOptions, startSystem } from '../scripts/system/system.mjs'

export const ROOT = fileURLToPath(new URL('..', import.meta.url))
const CLI = join(ROOT, 'bin', 'sandtrail')

export interface Ran {
  code: number
  stdout: string
  stderr: string
}

export interface HistoryEvent {
  position: string | number | null
  type: string
  time: string
  actor: string
  commandId: string
  data: JsonObject
}

/** Runs a program to its end; 255 as its code when a signal ended it. */
export async function runProgram(
  program: string,
  args: readonly string[],
  {
    stdin = '',
    timeoutMs,
    ...options
  }: { stdin?: string | Buffer; timeoutMs: number; env?: NodeJS.ProcessEnv; cwd?: string },
): Promise<Ran> {
  const child = spawn(program, [...args], { ...options, timeout: timeoutMs })
  const [stdout, stderr]: [Buffer[], Buffer[]] = [[], []]
  child.stdout.on('data', (chunk) => stdout.push(chunk))
  child.stderr.on('data', (chunk) => stderr.push(chunk))
  child.stdin.on('error', () => {}) // A program that does not read its stdin is no fault.
  child.stdin.end(stdin)
  const code = await new Promise<number>((resolve, reject) => {
    child.on('error', reject)
    child.on('close', (exit, signal) => resolve(exit ?? (signal ? 255 : 254)))
  })
  return { code, stdout: Buffer.concat(stdout).toString(), stderr: Buffer.concat(stderr).toString() }
}

export class TestSystem {
  private constructor(readonly system: System) {}

  static async start(options: SystemOptions = {}): Promise<TestSystem> {
    return new TestSystem(await startSystem(options))
  }

  get env(): Record<string, string> {
    return this.system.env
  }

  stop(): Promise<void> {
    return this.system.stop()
  }

  /** Runs the CLI to its end. */
  async run(
    args: string[],
    {
      stdin = '',
      timeoutMs = 90_000,
      token = this.env.SANDTRAIL_TOKEN,
    }: { stdin?: string | Buffer; timeoutMs?: number; token?: string | undefined } = {},
  ): Promise<Ran> {
    const env = { ...process.env, ...this.env, SANDTRAIL_TOKEN: token }
    return await runProgram(CLI, args, { env, stdin, timeoutMs })
  }

  /** Runs the CLI, which must succeed, and gives its stdout without the trailing newline. */
  async ok(...args: string[]): Promise<string> {
    const { code, stdout, stderr } = await this.run(args)
    if (code !== 0) throw new Error(`sandtrail ${args.join(' ')} ended with ${code}: ${stderr || stdout}`)
    return stdout.replace(/\n$/, '')
  }

  async json<T>(...args: string[]): Promise<T> {
    return JSON.parse(await this.ok(...args, '-o', 'json')) as T
  }

  history(id: string): Promise<HistoryEvent[]> {
    return this.json<HistoryEvent[]>('history', id)
  }

  async types(id: string): Promise<string[]> {
    return (await this.history(id)).map(({ type }) => type)
  }

  /** A connection as a program of the tenant has it: `req.…`, `cmd.…`, `evt.…`. */
  async nats(): Promise<Messaging> {
    const credentials: Credentials = { user: this.env.NATS_USER!, password: this.env.NATS_PASSWORD! }
    const ca = this.env.NATS_CA
    const tls = ca === undefined ? {} : { ca: readFileSync(ca, 'utf8') }
    return connect({ servers: this.env.NATS_URL!, name: 'test', credentials, tls })
  }
}

/** Headers of a command of its own, or sent again with the id of another. */
export function newCommand(commandId: string = randomUUID()): SentHeaders {
  return commandHeaders({ commandId, expiresAt: new Date(Date.now() + 600_000) })
}

/** Waits on a condition; the test's own timeout is the limit. */
export async function until<T>(
  look: () => Promise<T | undefined | null | false> | T | undefined | null | false,
): Promise<T> {
  for (;;) {
    const found = await look()
    if (found) return found
    await new Promise((resolve) => setTimeout(resolve, 50))
  }
}
