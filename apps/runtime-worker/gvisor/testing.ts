/** Parts of the gVisor tests: a pool with the base image, a driver, sandboxes, and programs run in them. */

import { createHash, randomBytes } from 'node:crypto'
import { createReadStream } from 'node:fs'
import { mkdir, readFile, stat } from 'node:fs/promises'
import { join } from 'node:path'
import type { AgentExit, OutputSink } from '#libs/agent-client'
import { type ExecId, type ImageId, makeId, type SandboxSpec } from '#libs/domain'
import { createLog } from '#libs/service'
import { Pool } from '#libs/storage'
import { makeTestPool } from '../../../libs/storage/testing.js'
import { inventory } from '../../../scripts/system/inventory.mjs'
import type { RunningSandbox, RuntimeRequest } from '../runtime.js'
import { GvisorDriver, type GvisorOptions } from './driver.js'

export const log = createLog('test', process.env.SANDTRAIL_TEST_LOG ?? 'fatal')

const id = <P extends string>(prefix: P) => makeId(prefix, Date.now(), randomBytes(10))

/** What set-up has found or built. */
async function tools(): Promise<Record<string, string>> {
  const text = await readFile(new URL('../../../.tools/env', import.meta.url), 'utf8')
  return Object.fromEntries(
    text
      .split('\n')
      .filter((line) => line.includes('='))
      .map((line) => [line.slice(0, line.indexOf('=')), line.slice(line.indexOf('=') + 1)]),
  )
}

export interface GvisorHost {
  pool: Pool
  imageId: ImageId
  instance: string
  stateDir: string
  options: GvisorOptions
  /** A driver as a worker's new life makes it. */
  driver(extra?: Partial<GvisorOptions>): GvisorDriver
  /** A whole request; a test gives only what matters. */
  request(spec?: Partial<SandboxSpec>): TestRequest
  /** What of the whole host is this instance's. */
  inventory(): Promise<string[]>
  remove(): Promise<void>
}

export interface TestRequest extends RuntimeRequest {
  output: Output
}

/** What programs have printed and how they ended, as the worker's spool would keep it. */
export class Output implements OutputSink {
  private readonly streams = new Map<string, Buffer>()
  private readonly ends = new Map<string, PromiseWithResolvers<AgentExit>>()

  append(execId: string, stream: 'stdout' | 'stderr', offset: number, data: Buffer): void {
    const key = `${execId} ${stream}`
    const have = this.streams.get(key) ?? Buffer.alloc(0)
    if (have.length !== offset) throw new Error(`${key} has ${have.length} bytes, these begin at ${offset}`)
    this.streams.set(key, Buffer.concat([have, data]))
  }

  async durableOffsets() {
    const offsets: Record<string, { stdout: number; stderr: number }> = {}
    for (const execId of this.ends.keys()) {
      const [stdout, stderr] = [this.of(execId, 'stdout').length, this.of(execId, 'stderr').length]
      offsets[execId] = { stdout, stderr }
    }
    return offsets
  }

  onExit = (execId: string, exit: AgentExit): void => this.end(execId).resolve(exit)

  of(execId: string, stream: 'stdout' | 'stderr'): string {
    return (this.streams.get(`${execId} ${stream}`) ?? Buffer.alloc(0)).toString()
  }

  end(execId: string): PromiseWithResolvers<AgentExit> {
    const end = this.ends.get(execId) ?? Promise.withResolvers<AgentExit>()
    this.ends.set(execId, end)
    return end
  }
}

export async function makeGvisorHost(network?: Partial<GvisorOptions['network']>): Promise<GvisorHost> {
  const { SANDTRAIL_RUNSC, SANDTRAIL_AGENT, SANDTRAIL_BASE_IMAGE, SANDTRAIL_RUNSC_PLATFORM } = await tools()
  const testPool = await makeTestPool()
  const pool = await Pool.open(testPool.dir)
  const imageId = id('im')
  await importBase(pool, imageId, SANDTRAIL_BASE_IMAGE ?? '')
  const stateDir = join(testPool.scratch, 'state')
  const instance = randomBytes(4).toString('hex')
  const options: GvisorOptions = {
    runsc: SANDTRAIL_RUNSC ?? '',
    platform: SANDTRAIL_RUNSC_PLATFORM === 'ptrace' ? 'ptrace' : 'systrap',
    agentBinary: SANDTRAIL_AGENT ?? '',
    stateDir,
    instance,
    pool,
    network: { dnsUpstream: '192.0.2.53:53', ...network },
    log,
  }
  await mkdir(stateDir, { recursive: true })
  return {
    pool,
    imageId,
    instance,
    stateDir,
    options,
    driver: (extra = {}) => new GvisorDriver({ ...options, ...extra }),
    request: (spec = {}) => makeRequest(stateDir, imageId, spec),
    inventory: async () =>
      (await inventory()).filter((line) => line.includes(instance) || line.includes(testPool.scratch)),
    async remove() {
      await pool.close()
      await testPool.remove()
    },
  }
}

async function importBase(pool: Pool, imageId: ImageId, archive: string): Promise<void> {
  const hash = createHash('sha256')
  for await (const chunk of createReadStream(archive)) hash.update(chunk as Buffer)
  const { size } = await stat(archive)
  await pool.importImage(imageId, createReadStream(archive), { sha256: hash.digest('hex'), bytes: size })
}

function makeRequest(stateDir: string, imageId: ImageId, spec: Partial<SandboxSpec>): TestRequest {
  const sandboxId = id('sb')
  const output = new Output()
  return {
    sandboxId,
    epoch: 1,
    tenant: 'default',
    dir: join(stateDir, 'sandboxes', sandboxId),
    sink: output,
    onExecExit: output.onExit,
    output,
    spec: {
      runtime: 'gvisor',
      image: { imageId, ref: 'base:latest' },
      command: null,
      workdir: null,
      user: null,
      envNames: [],
      resources: { cpuMillis: 500, memoryBytes: 256 * 1024 ** 2, diskBytes: 1024 ** 3 },
      cpuLimitMillis: null,
      diskLimitBytes: 1024 ** 3,
      timeoutMs: 60_000,
      idleTimeoutMs: null,
      network: 'none',
      volumes: [],
      name: null,
      tags: {},
      ...spec,
    },
  }
}

/** Starts a shell script in the sandbox; its id. */
export async function startShell(
  { agent }: RunningSandbox,
  request: TestRequest,
  script: string,
): Promise<ExecId> {
  const execId = id('ex')
  request.output.end(execId)
  const outcome = await agent.exec({ execId, argv: ['/bin/sh', '-c', script], stdin: 'closed' })
  if (outcome.state !== 'started') throw new Error(`the shell did not start: ${JSON.stringify(outcome)}`)
  return execId
}

/** Runs a shell script to its end. */
export async function shell(running: RunningSandbox, request: TestRequest, script: string) {
  const execId = await startShell(running, request, script)
  const { code } = await request.output.end(execId).promise
  running.agent.acknowledgeExit(execId)
  const [stdout, stderr] = [request.output.of(execId, 'stdout'), request.output.of(execId, 'stderr')]
  return { code, stdout: stdout.trim(), stderr: stderr.trim() }
}
