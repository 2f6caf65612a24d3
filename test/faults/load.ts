/**
 * Lives of sandboxes, some at a time, while things break: created, written in, snapshotted, committed, ended; what each
 * client was told goes into the history. It passes every failpoint.
 */

import { randomUUID } from 'node:crypto'
import { setTimeout as delay } from 'node:timers/promises'
import { commandHeaders, connect, type Messaging } from '#libs/messaging'
import type { HistoryFile } from '../checker/history.js'
import { RecordingClient } from '../checker/recording-client.js'
import { Random } from './random.js'

export interface LoadOptions {
  env: Record<string, string>
  history: HistoryFile
  seed: number
  /** Lives at a time. */
  clients: number
  /** For how long a client goes on asking for one thing; longer than any outage that the test makes. */
  patienceMs: number
}

const VOLUME = 'shared'
/** Its own lifetime ends what its client has lost sight of. */
const BODY = { cpuMillis: 10, memoryBytes: 64 * 1024 ** 2, timeoutMs: 60_000 }

export class Load {
  lives = 0
  readonly client: RecordingClient
  private readonly stopping = new AbortController()
  private readonly following = new AbortController()
  private work: Promise<void>[] = []

  private constructor(
    private readonly options: LoadOptions,
    private readonly messaging: Messaging,
  ) {
    const { env, history, patienceMs } = options
    this.client = new RecordingClient({
      url: env.SANDTRAIL_URL!,
      token: env.SANDTRAIL_TOKEN!,
      history,
      patienceMs,
    })
  }

  static async open(options: LoadOptions): Promise<Load> {
    const { env } = options
    const credentials = { user: env.NATS_USER!, password: env.NATS_PASSWORD! }
    const load = new Load(options, await connect({ servers: env.NATS_URL!, name: 'load', credentials }))
    await load.client.createVolume(VOLUME)
    return load
  }

  begin(): void {
    const { clients, seed } = this.options
    const loops = Array.from({ length: clients }, (_, n) => this.loop(new Random(seed + n)))
    this.work = [...loops, this.client.follow('one', this.following.signal)]
  }

  /** No new life begins; resolves when those that go on are over, or their clients' patience is. */
  async stop(): Promise<void> {
    this.stopping.abort()
    await Promise.all(this.work.slice(0, -1))
  }

  /** Ends the follower too, and whatever a failed test has left. */
  async close(): Promise<void> {
    this.stopping.abort()
    this.following.abort()
    await Promise.all(this.work)
    await this.messaging.close()
  }

  private async loop(random: Random): Promise<void> {
    while (!this.stopping.signal.aborted) await this.life(random)
  }

  private async life(random: Random): Promise<void> {
    const { client } = this
    const hasVolume = random.next() < 0.5
    const body = {
      ...BODY,
      network: random.next() < 0.3 ? 'open' : 'none',
      volumes: hasVolume ? [{ volume: VOLUME, path: '/data' }] : [],
    }
    const sandboxId = (await client.createSandbox(body))?.sandboxId
    if (sandboxId === undefined) return void (await delay(500)) // Refused: not again at once.
    const code = Math.floor(random.next() * 100)
    await client.exec(sandboxId, ['sh', '-c', `seq 1 ${code * 10}; echo to-stderr >&2; exit ${code}`])
    if (hasVolume) {
      await client.exec(sandboxId, ['sh', '-c', `echo ${code} > /data/${sandboxId}; sync`])
      if (random.next() < 0.7) await client.commitVolume(VOLUME, sandboxId)
    }
    if (random.next() < 0.4) await client.snapshot(sandboxId)
    if (random.next() < 0.5)
      await client.exec(sandboxId, ['sh', '-c', 'for i in 1 2 3 4 5; do echo $i; sleep 0.1; done'])
    if (random.next() < 0.5) await this.queueTermination(sandboxId)
    else await client.terminate(sandboxId)
    await client.untilEnded(sandboxId)
    this.lives += 1
  }

  /** As a program does that does not wait. A broker whose store is lost loses the command: then it is asked for. */
  private async queueTermination(sandboxId: string): Promise<void> {
    const commandId = randomUUID()
    const headers = commandHeaders({ commandId, expiresAt: new Date(Date.now() + 60_000) })
    this.options.history.write({ kind: 'asked', commandId, verb: 'sandbox.terminate' })
    const queued = await this.messaging
      .publishCommand('cmd.sandbox.terminate', { sandboxId }, headers)
      .catch(() => null)
    this.options.history.write({ kind: 'unknown', commandId, code: queued ? 'QUEUED' : 'UNAVAILABLE' })
    if (queued === null || !(await this.client.untilEnded(sandboxId, 10_000)))
      await this.client.terminate(sandboxId)
  }
}
