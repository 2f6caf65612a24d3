import { appendFileSync, mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, expect, test } from '@jest/globals'
import type { ExecSpec } from '#libs/domain'
import { apply, condensed, Journal, type JournalState, type NewEntry } from './journal.js'

const root = mkdtempSync(join(tmpdir(), 'sandtrail-journal-'))
afterAll(() => rmSync(root, { recursive: true }))
const newDir = () => mkdtempSync(join(root, 'sandbox-'))

const EXEC = 'ex-01JTESTTESTTESTTESTTESTTE0'
const OTHER = 'ex-01JTESTTESTTESTTESTTESTTE1'
const spec: ExecSpec = {
  sandboxId: 'sb-01JTESTTESTTESTTESTTESTTE0',
  epoch: 1,
  argv: ['true'],
  workdir: null,
  user: null,
  envNames: ['TOKEN'],
  pty: null,
  stdin: 'closed',
  timeoutMs: null,
}
const ending = { kind: 'lost', mayHaveRun: true, reason: 'test' } as const

/** Every kind of entry, in an order that could happen. */
const LIFE: NewEntry[] = [
  { kind: 'running' },
  { kind: 'slot', volumeId: 'vo-01JTESTTESTTESTTESTTESTTE0', slot: 'v0' },
  { kind: 'exec-intent', execId: EXEC, spec, stdinBytes: 0, sent: false },
  { kind: 'exec-sent', execId: EXEC },
  { kind: 'exec-started', execId: EXEC },
  { kind: 'exec-signal', execId: EXEC, signalId: 's1' },
  { kind: 'exec-timed-out', execId: EXEC },
  { kind: 'exec-intent', execId: 'main', spec, stdinBytes: 0, sent: true },
  { kind: 'exec-cancelled', execId: OTHER },
  { kind: 'activity' },
  { kind: 'exec-closed', execId: 'main' },
  { kind: 'ending', cause: { kind: 'stopped' } },
  { kind: 'ending', cause: { kind: 'timed-out', reason: 'idle' } },
]

test('a restart finds the state that the process had', () => {
  const dir = newDir()
  const journal = Journal.open(dir)
  journal.append(...LIFE)
  journal.report({ kind: 'sandbox-started', volumes: [] }, { kind: 'exec-ended', execId: EXEC, ending })
  journal.append({ kind: 'accepted', to: 1 })
  expect(Journal.open(dir).state).toEqual(journal.state)
})

test('the first cause of an end counts', () => {
  const journal = Journal.open(newDir())
  journal.append(...LIFE)
  expect(journal.state.cause).toEqual({ kind: 'stopped' })
})

test('facts are numbered without a gap and wait until they are accepted', () => {
  const journal = Journal.open(newDir())
  journal.report({ kind: 'sandbox-started', volumes: [] }, { kind: 'exec-started', execId: EXEC, pid: 7 })
  journal.report({ kind: 'exec-ended', execId: EXEC, ending })
  expect(journal.state.facts.map(({ factSeq }) => factSeq)).toEqual([1, 2, 3])
  journal.append({ kind: 'accepted', to: 2 })
  expect(journal.state.facts.map(({ factSeq }) => factSeq)).toEqual([3])
})

test('a fact is told as the control plane takes it, whatever a tool has said', () => {
  const journal = Journal.open(newDir())
  const message = `\0${'x'.repeat(4_094)}\u{1F600}${'x'.repeat(100)}`
  journal.report({
    kind: 'sandbox-ended',
    ending: { kind: 'failed', step: 's', code: 'c', message },
    staged: [],
  })
  const leftovers = Array.from({ length: 1_000 }, () => '\uD800')
  journal.report({ kind: 'sandbox-cleaned-up', leftovers })
  expect(journal.state.facts).toMatchObject([
    { ending: { kind: 'failed', message: `\uFFFD${'x'.repeat(4_094)}\uFFFD` } },
    { leftovers: Array.from({ length: 100 }, () => '\uFFFD') },
  ])
})

test('the fact of its end closes an exec in the same write', () => {
  const journal = Journal.open(newDir())
  journal.append({ kind: 'exec-intent', execId: EXEC, spec, stdinBytes: 0, sent: true })
  journal.report({ kind: 'exec-ended', execId: EXEC, ending })
  expect(journal.state.execs.get(EXEC)).toMatchObject({ phase: 'closed', spec: null })
})

test('a fenced epoch keeps none of its facts and tells only its end', () => {
  const journal = Journal.open(newDir())
  journal.report({ kind: 'sandbox-started', volumes: [] })
  journal.append({ kind: 'fenced' })
  journal.report({ kind: 'exec-ended', execId: EXEC, ending })
  journal.report({ kind: 'sandbox-ended', ending: { kind: 'stopped' }, staged: [] })
  expect(journal.state.facts.map(({ kind, factSeq }) => [kind, factSeq])).toEqual([['sandbox-ended', 2]])
})

test('a line that a power cut tore is cut off, and the next one stands alone', () => {
  const dir = newDir()
  const path = join(dir, 'journal.jsonl')
  Journal.open(dir).append({ kind: 'running' })
  appendFileSync(path, '{"at":1,"kind":"exec-int')
  Journal.open(dir).append({ kind: 'activity' })
  const lines = readFileSync(path, 'utf8').trimEnd().split('\n')
  expect(lines.map((line) => JSON.parse(line).kind)).toEqual(['running', 'activity'])
})

test('the condensed journal folds to the same state', () => {
  const journal = Journal.open(newDir())
  journal.append(...LIFE)
  journal.report({ kind: 'sandbox-started', volumes: [] }, { kind: 'exec-ended', execId: EXEC, ending })
  journal.report({ kind: 'sandbox-ended', ending: { kind: 'stopped' }, staged: [] })
  journal.append({ kind: 'accepted', to: 2 })
  const again = Journal.open(newDir()).state
  for (const entry of condensed(journal.state)) apply(again, entry)
  expect(comparable(again)).toEqual(comparable(journal.state))
})

test('a long journal is rewritten, and loses nothing that is open', async () => {
  const dir = newDir()
  const journal = Journal.open(dir)
  journal.append({ kind: 'exec-intent', execId: EXEC, spec, stdinBytes: 0, sent: true })
  const long = { ...spec, argv: ['x'.repeat(100_000)] }
  for (let i = 0; i < 60; i++) {
    const execId = `ex-01JTESTTESTTESTTESTTESTT${String(i).padStart(2, '0')}` as typeof EXEC
    journal.append({ kind: 'exec-intent', execId, spec: long, stdinBytes: 0, sent: true })
    journal.report({ kind: 'exec-ended', execId, ending })
    journal.append({ kind: 'accepted', to: i + 1 })
    await journal.sync()
  }
  expect(readFileSync(join(dir, 'journal.jsonl')).length).toBeLessThan(5_000_000)
  const again = Journal.open(dir).state
  expect(again.execs.get(EXEC)?.phase).toBe('sent')
  expect(again.execs.size).toBe(61)
  expect(again.factSeq).toBe(60)
})

/** What a closed exec was like does not matter any more. */
function comparable(state: JournalState) {
  const execs = [...state.execs].map(
    ([id, { phase, closedAt, cancelled, spec, startedAt, timedOut, signalIds }]) =>
      phase === 'closed'
        ? [id, phase, closedAt, cancelled]
        : [id, phase, spec, startedAt, timedOut, [...signalIds]],
  )
  return { ...state, execs }
}
