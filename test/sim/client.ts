/**
 * Programs that use the system: they send a command until it is decided, the same id again whenever they are in doubt,
 * and note down what they were promised.
 */

import { type ErrorBody, fromErrorBody, Rejected, SandtrailError } from '#libs/domain'
import type { Messaging, SentHeaders } from '#libs/messaging'
import type { Broker } from './broker.js'
import { MISSING, program } from './guest.js'
import type { SimProcess, World } from './world.js'

export const TENANT = 'acme'
const EXPIRES_MS = 3_600_000
const OUTCOME_MS = 8_000
const MIB = 1024 ** 2

type Verb = 'create' | 'exec' | 'signal' | 'terminate'
export type Outcome = { ok: true; stream: string; version: number; sandboxId: string; execId?: string }

export interface Promised {
  id: string
  verb: Verb
  body: Record<string, unknown>
  /** What every answer must be. Null while undecided. */
  outcome: Outcome | { error: string } | null
}

export class Client {
  readonly promised: Promised[] = []
  /** Execs by id, with what their program does. */
  readonly programs = new Map<string, string[]>()
  private readonly messaging: Messaging
  private readonly waiting = new Map<string, (outcome: object) => void>()
  private busy = 0
  private isHurried = false
  private readonly told = new Set<string>()

  constructor(
    private readonly world: World,
    private readonly broker: Broker,
    readonly process: SimProcess,
  ) {
    this.messaging = broker.connect(process)
    broker.listen(process, /\.out\./, (subject, body) => this.waiting.get(subject.split('.').at(-1)!)?.(body))
  }

  get isDone(): boolean {
    return this.busy === 0
  }

  /** The lives of some sandboxes, one beginning after the other. */
  begin(count: number): void {
    const { random } = this.world
    for (let i = 0; i < count; i++) {
      this.busy++
      this.world.after(random.between(0, 15_000), () => void this.liveAndCount(), this.process)
    }
  }

  /** From now on nobody waits on purpose. */
  hurry(): void {
    this.isHurried = true
  }

  /** Tells these to end, each once. */
  end(sandboxIds: Iterable<string>): void {
    for (const sandboxId of sandboxIds) {
      if (this.told.has(sandboxId)) continue
      this.told.add(sandboxId)
      this.busy++
      void this.send('terminate', { sandboxId }).finally(() => this.busy--)
    }
  }

  private async liveAndCount(): Promise<void> {
    await this.live()
    this.busy--
  }

  private async live(): Promise<void> {
    const { random } = this.world
    const created = await this.send('create', this.sandbox())
    if (!created || !('ok' in created)) return
    const { sandboxId } = created
    const execs = Array.from({ length: random.int(0, 6) }, async () => {
      await this.wait(random.between(0, 6_000))
      await this.runExec(sandboxId)
    })
    if (random.chance(0.5)) await Promise.all(execs)
    if (random.chance(0.6)) {
      await this.wait(random.between(0, 12_000))
      // One more exec races with the end.
      if (random.chance(0.4)) execs.push(this.runExec(sandboxId))
      await this.send('terminate', { sandboxId })
    }
    await Promise.all(execs)
  }

  private async runExec(sandboxId: string): Promise<void> {
    const { random } = this.world
    const argv = random.chance(0.1)
      ? MISSING
      : program(random.int(0, random.pick([300, 4_000, 20_000])), random.int(0, 3), random.int(0, 200))
    const waitMs = random.chance(0.2) ? 3_000 : 0
    const timeoutMs = random.chance(0.2) ? random.int(100, 5_000) : null
    const accepted = await this.send('exec', { sandboxId, argv, waitMs, timeoutMs })
    if (!accepted || !('ok' in accepted)) return
    const { execId } = accepted
    if (random.chance(0.3)) {
      await this.wait(random.between(0, 3_000))
      await this.send('signal', { execId, signal: 15 })
    }
  }

  private sandbox(): Record<string, unknown> {
    const { random } = this.world
    return {
      name: random.chance(0.3) ? random.pick(['web', 'db']) : null,
      command: random.chance(0.4)
        ? program(random.int(500, 20_000), random.int(0, 2), random.int(0, 50))
        : null,
      timeoutMs: random.chance(0.25) ? random.int(1_000, 20_000) : null,
      idleTimeoutMs: random.chance(0.2) ? random.int(1_000, 10_000) : null,
      memoryBytes: random.pick([128, 256, 1_024]) * MIB,
    }
  }

  /** Until it is decided. Null: it was given up, and must have had no effect or its whole effect. */
  private async send(verb: Verb, body: Record<string, unknown>): Promise<Promised['outcome']> {
    const { random } = this.world
    const promised: Promised = { id: `command-${this.promised.length}`, verb, body, outcome: null }
    this.promised.push(promised)
    const headers = { commandId: promised.id, expiresAt: new Date(Date.now() + EXPIRES_MS) }
    const isQueued = random.chance(0.3)
    for (let times = random.chance(0.15) ? 2 : 1; times > 0; ) {
      try {
        const answer = await (isQueued ? this.queue(promised, headers) : this.ask(promised, headers))
        this.note(promised, answer)
        times--
      } catch (error) {
        if (error instanceof Rejected) {
          this.note(promised, { error: error.code })
          times--
        } else if (!(error instanceof SandtrailError)) throw error
        else if (error.code === 'INTERNAL')
          this.world.violate(`${verb} ${promised.id} failed: ${error.message}`)
        // Whoever finds no room gives up in the end, without knowing of the others' ends.
        else if (['NO_CAPACITY', 'QUOTA_EXCEEDED'].includes(error.code) && random.chance(0.3)) break
        await this.wait(random.between(50, 1_500))
      }
    }
    return promised.outcome
  }

  private async ask({ verb, body }: Promised, headers: object): Promise<object> {
    return this.messaging.request(`v1.${TENANT}.req.sandbox.${verb}`, body, {
      headers: headers as SentHeaders,
      timeoutMs: 5_000 + Number(body.waitMs ?? 0),
    })
  }

  private async queue({ id, verb, body }: Promised, headers: object): Promise<object> {
    const outcome = new Promise<object | null>((resolve) => {
      this.waiting.set(id, resolve)
      this.world.after(OUTCOME_MS, () => resolve(null))
    })
    await this.broker.enqueue(this.process, `v1.${TENANT}.cmd.sandbox.${verb}`, body, headers)
    const heard = (await outcome) as { error?: ErrorBody } | null
    this.waiting.delete(id)
    if (heard === null) throw new SandtrailError('DEADLINE_EXCEEDED', 'no outcome was heard')
    if (heard.error) throw fromErrorBody(heard.error)
    return heard
  }

  /** Every answer to one id is the same. */
  private note(promised: Promised, answer: object): void {
    const { exec: _, ...plain } = answer as { exec?: unknown }
    const outcome = plain as unknown as NonNullable<Promised['outcome']>
    const { verb, id, body } = promised
    if (promised.outcome === null) {
      promised.outcome = outcome
      this.world.trace.add('decided', id, verb, JSON.stringify(outcome))
      if ('execId' in outcome && verb === 'exec') this.programs.set(outcome.execId!, body.argv as string[])
    } else if (JSON.stringify(sorted(promised.outcome)) !== JSON.stringify(sorted(outcome))) {
      const [first, second] = [JSON.stringify(promised.outcome), JSON.stringify(outcome)]
      this.world.violate(`${verb} ${id} was answered ${first} and then ${second}`)
    }
  }

  private wait(ms: number): Promise<void> {
    return this.world.pause(this.isHurried ? Math.min(ms, 200) : ms)
  }
}

function sorted(value: object): [string, unknown][] {
  return Object.entries(value).sort(([a], [b]) => (a < b ? -1 : 1))
}
