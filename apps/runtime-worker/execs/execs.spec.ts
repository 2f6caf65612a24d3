/** The agent here is one that no real one is: it says what each test wants. The real one is in worker.int.spec.ts. */

import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, expect, test } from '@jest/globals'
import type { AgentExit, AgentSession } from '#libs/agent-client'
import { type ExecSpec, SandtrailError } from '#libs/domain'
import { createLog } from '#libs/service'
import { Journal } from '../sandboxes/journal.js'
import { Spool } from '../spool/spool.js'
import { Execs } from './execs.js'

const root = mkdtempSync(join(tmpdir(), 'sandtrail-execs-'))
afterAll(() => rmSync(root, { recursive: true }))

const sandboxId = 'sb-01JTESTTESTTESTTESTTESTTE0'
const EXEC = 'ex-01JTESTTESTTESTTESTTESTTE0'
const spec: ExecSpec = {
  sandboxId,
  epoch: 1,
  argv: ['sleep', '60'],
  workdir: null,
  user: null,
  envNames: [],
  pty: null,
  stdin: 'closed',
  timeoutMs: null,
}
const exit: AgentExit = {
  code: 0,
  signal: null,
  timedOut: false,
  stdoutBytes: 0,
  stderrBytes: 0,
  stdoutComplete: true,
  stderrComplete: true,
  ranMs: 1,
}
const SPOOL_LIMITS = {
  streamBytesMax: 1024 ** 2,
  sandboxBytesMax: 1024 ** 3,
  keepMs: 3_600_000,
  reserveBytes: 0,
}
const secrets = { env: {}, stdin: null }
const silent = async (): Promise<never> => {
  throw new SandtrailError('AGENT_UNREACHABLE', 'the agent does not answer')
}

function newExecs(dir = mkdtempSync(join(root, 'sandbox-'))) {
  const journal = Journal.open(dir)
  const execs = new Execs({
    sandboxId,
    journal,
    spool: new Spool(join(dir, 'spool'), SPOOL_LIMITS),
    log: createLog('test', 'fatal'),
    mayHaveForgotten: () => false,
    onMainEnded() {},
    onActivity() {},
  })
  const endings = () => journal.state.facts.filter(({ kind }) => kind === 'exec-ended')
  return { dir, journal, execs, endings }
}

const agentThat = (does: Partial<Record<keyof AgentSession, unknown>>) =>
  ({ acknowledgeExit() {}, ...does }) as unknown as AgentSession

test('a signal that waited for the start and is not delivered loses no exec, and can be sent again', async () => {
  const { execs, journal, endings } = newExecs()
  const signals: number[] = []
  const asked = Promise.withResolvers<void>()
  const agent = agentThat({
    exec: async () => ({ state: 'started', pid: 7, startedAgoMs: 0 }),
    async signal(_: string, signal: number) {
      signals.push(signal)
      asked.resolve()
      if (signals.length === 1) await silent()
    },
  })
  execs.accept(EXEC, spec, secrets, 60_000)
  await execs.signal(EXEC, 15, 'first')
  execs.begin(agent)
  await asked.promise
  await execs.started(EXEC)
  await execs.signal(EXEC, 15, 'first')
  expect(signals).toEqual([15, 15])
  expect(endings()).toEqual([])
  expect(journal.state.execs.get(EXEC)?.signalIds).toEqual(new Set(['first']))
})

test('after a restart an agent that tells nothing holds up nothing, and the exit that it tells later counts', async () => {
  const before = newExecs()
  before.execs.accept(EXEC, spec, secrets, 60_000)
  before.execs.begin(agentThat({ exec: async () => ({ state: 'started', pid: 7, startedAgoMs: 0 }) }))
  await before.execs.started(EXEC)

  const { execs, endings } = newExecs(before.dir)
  execs.restore()
  execs.adopt(agentThat({ execState: silent }))
  await execs.onExit(EXEC, exit)
  expect(endings()).toMatchObject([{ ending: { kind: 'exited', exitCode: 0 } }])
})
