/** A service's commands by name. `req.` and `cmd.` both come through here, so each is checked, run and logged alike. */

import type { z } from 'zod'
import type { Accepted } from '#libs/contract'
import { Rejected, SandtrailError } from '#libs/domain'
import { correlate, correlation, counter, durations, type Log, traced } from '#libs/service'
import type { Gate } from '#libs/tenancy'
import { type Command, type Envelope, toCommand } from './envelope.js'

/** What the table needs of the service that runs the commands. */
export interface Deciding {
  /** Keys the hashes of command bodies. */
  hashKey: Buffer
  /** Bounds the commands that a tenant sends, re-sends included. */
  gate: Pick<Gate, 'admit' | 'refused'>
  log: Log
}

const decided = counter('sandtrail_commands_total', 'Commands by name and outcome.', ['command', 'outcome'])
const acceptSeconds = durations(
  'sandtrail_command_accept_seconds',
  'From the arrival of a command to its committed acceptance.',
  ['command'],
)

type Run<S, Body> = (service: S, command: Command<Body>) => Promise<Accepted>

export class CommandTable<S extends Deciding> {
  private readonly entries = new Map<string, { schema: z.ZodType; run: Run<S, unknown> }>()

  add<Schema extends z.ZodType>(name: string, schema: Schema, run: Run<S, z.output<Schema>>): this {
    this.entries.set(name, { schema, run: run as Run<S, unknown> })
    return this
  }

  has(name: string): boolean {
    return this.entries.has(name)
  }

  /**
   * Resolves after the commit, or with the first outcome for a re-send.
   *
   * @throws Rejected, SandtrailError as docs/errors.md lists them
   */
  async run(service: S, name: string, body: unknown, context: Envelope): Promise<Accepted> {
    const { tenant, commandId, traceparent } = context
    const correlated = {
      tenant,
      ...(commandId === null ? {} : { commandId }),
      ...(traceparent === null ? {} : { traceparent }),
    }
    return correlate(correlated, () =>
      traced(`decide ${name}`, { kind: 'server' }, () => this.decide(service, name, body, context)),
    )
  }

  private async decide(service: S, name: string, body: unknown, context: Envelope): Promise<Accepted> {
    const startedMs = performance.now()
    const entry = this.entries.get(name)
    if (!entry) throw new Error(`no command is called ${name}`)
    const caller = { tenant: context.tenant, actor: context.actor, action: name }
    let accepted: Accepted
    try {
      await service.gate.admit('commands', caller)
      // The events name the span that decided them, so that history and traces lead to one another.
      const envelope = { ...context, traceparent: correlation().traceparent ?? null }
      accepted = await entry.run(service, toCommand(entry.schema, name, envelope, body, service.hashKey))
    } catch (error) {
      const isRejected = error instanceof Rejected
      decided.inc({ command: name, outcome: isRejected ? 'rejected' : 'failed' })
      if (isRejected) service.log.info({ command: name, code: error.code }, 'command rejected')
      if (error instanceof SandtrailError && error.code === 'QUOTA_EXCEEDED') {
        service.gate.refused({ ...caller, code: error.code, detail: error.detail })
      }
      throw error
    }
    const { stream, sandboxId, execId } = accepted
    const tookMs = Math.round(performance.now() - startedMs)
    decided.inc({ command: name, outcome: 'accepted' })
    acceptSeconds.observe({ command: name }, (performance.now() - startedMs) / 1000)
    service.log.info({ command: name, stream, sandboxId, execId, tookMs }, 'command accepted')
    return accepted
  }
}
