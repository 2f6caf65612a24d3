/**
 * Whether a sandbox's agent still answers. Root inside can stop it (SIGSTOP, ptrace); then no exec starts, ends or can
 * be killed any more, and only the end of the sandbox helps.
 *
 * Asked only while something runs or waits to start: an idle sandbox costs nothing.
 */

import { setTimeout as delay } from 'node:timers/promises'
import type { AgentSession } from '#libs/agent-client'
import { SandtrailError } from '#libs/domain'

/** A question costs the sandbox some 0.2 ms. */
const ASK_EVERY_MS = 5_000
/** A guest with thousands of busy threads on a slow core lets its agent wait for seconds. */
const ANSWER_MS_MAX = 5_000
/** In a row. One alone may be this process that stood still: its timers come due before it reads what has come. */
const MISSED_MAX = 3

export class AgentWatch {
  private readonly stopping = new AbortController()

  constructor(
    private readonly agent: Pick<AgentSession, 'ping'>,
    private readonly isNeeded: () => boolean,
    private readonly onSilent: () => void,
    private readonly timing = { everyMs: ASK_EVERY_MS, answerMs: ANSWER_MS_MAX },
  ) {}

  start(): void {
    void this.watch()
  }

  stop(): void {
    this.stopping.abort()
  }

  private async watch(): Promise<void> {
    const { signal } = this.stopping
    for (let missed = 0; ; ) {
      await delay(this.timing.everyMs, undefined, { signal, ref: false }).catch(() => {})
      if (signal.aborted) return
      // Half a minute all in all: an end for want of patience would be worse than a late one.
      missed = this.isNeeded() && !(await this.answers()) ? missed + 1 : 0
      if (signal.aborted) return
      if (missed === MISSED_MAX) return this.onSilent()
    }
  }

  /** A refusal is an answer too. */
  private async answers(): Promise<boolean> {
    try {
      await this.agent.ping(this.timing.answerMs)
      return true
    } catch (error) {
      return !(error instanceof SandtrailError && error.code === 'AGENT_UNREACHABLE')
    }
  }
}
