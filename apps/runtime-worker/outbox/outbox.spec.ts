import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as delay, setImmediate as nextTurn } from 'node:timers/promises'
import { afterAll, expect, test } from '@jest/globals'
import type { Report, ReportReply } from '#libs/contract'
import { Rejected, type SandboxId } from '#libs/domain'
import { createLog } from '#libs/service'
import { Journal } from '../sandboxes/journal.js'
import { firstFew, Outbox } from './outbox.js'

const root = mkdtempSync(join(tmpdir(), 'sandtrail-outbox-'))
afterAll(() => rmSync(root, { recursive: true }))

const EXEC = 'ex-01JTESTTESTTESTTESTTESTTE0'
const ended = {
  kind: 'exec-ended',
  execId: EXEC,
  ending: { kind: 'lost', mayHaveRun: false, reason: '' },
} as const
const started = { kind: 'exec-started', execId: EXEC, pid: 1 } as const
const silent = createLog('test', 'fatal')

function newSource() {
  const journal = Journal.open(mkdtempSync(join(root, 'sandbox-')))
  const source = {
    tenant: 'acme',
    sandboxId: 'sb-01JTESTTESTTESTTESTTESTTE0' as SandboxId,
    epoch: 1,
    journal,
    fenced: false,
    onFenced() {
      source.fenced = true
    },
  }
  return source
}

/** Takes reports with what `answer` says, and keeps them. */
function newOutbox(answer: (report: Report, count: number) => Partial<ReportReply>) {
  const reports: Report[] = []
  const outbox = new Outbox(async (report) => {
    reports.push(report)
    return {
      ok: true,
      acceptedTo: report.facts.at(-1)!.factSeq,
      fenced: false,
      ...answer(report, reports.length),
    }
  }, silent)
  const seqs = () => reports.map(({ facts }) => facts.map(({ factSeq }) => factSeq))
  return { outbox, reports, seqs }
}

test('facts are sent in their order and not again once they are accepted', async () => {
  const { outbox, seqs } = newOutbox(() => ({}))
  const source = newSource()
  outbox.attach(source)
  source.journal.report(ended, ended)
  await outbox.drained(source)
  source.journal.report(ended)
  await outbox.drained(source)
  expect(seqs()).toEqual([[1, 2], [3]])
  expect(source.journal.state.acceptedTo).toBe(3)
})

test('what the control plane did not take is sent again, from there on', async () => {
  const { outbox, seqs } = newOutbox((_, count) => {
    if (count === 1) throw new Error('nobody serves this')
    return count === 2 ? { acceptedTo: 1 } : {}
  })
  const source = newSource()
  source.journal.report(ended, ended)
  outbox.attach(source)
  expect(await outbox.drained(source)).toBe(true)
  expect(seqs()).toEqual([[1, 2], [1, 2], [2]])
})

test('a fact that is refused for what it says is told without it, and holds up none that follow', async () => {
  const { outbox, reports, seqs } = newOutbox(({ facts }) => {
    if (facts.some((fact) => JSON.stringify(fact).includes('unspeakable')))
      throw new Rejected('INVALID_ARGUMENT', 'facts.0.ending.reason: no')
    return {}
  })
  const source = newSource()
  source.journal.report({ ...ended, ending: { ...ended.ending, reason: 'unspeakable' } }, ended)
  outbox.attach(source)
  await outbox.drained(source)
  expect(seqs()).toEqual([[1, 2], [1], [2]])
  expect(reports[1]?.facts[0]).toMatchObject({ ...ended, ending: { kind: 'lost', mayHaveRun: false } })
})

test('a start waits a little, so that a short exec goes as one report', async () => {
  const { outbox, seqs } = newOutbox(() => ({}))
  const source = newSource()
  outbox.attach(source)
  source.journal.report(started)
  source.journal.report(ended)
  await outbox.drained(source)
  expect(seqs()).toEqual([[1, 2]])
})

test("an exec's facts do not wait for the disk, a sandbox's end does", async () => {
  const { outbox, reports } = newOutbox(() => ({}))
  const source = newSource()
  outbox.attach(source)
  const disk = Promise.withResolvers<void>()
  source.journal.sync = () => disk.promise
  source.journal.report(ended)
  while (reports.length < 1) await delay(1)
  source.journal.report({ kind: 'sandbox-ended', ending: { kind: 'stopped' }, staged: [] })
  disk.resolve()
  await outbox.drained(source)

  const written = Promise.withResolvers<void>()
  const asked = Promise.withResolvers<void>()
  source.journal.sync = () => {
    asked.resolve()
    return written.promise
  }
  source.journal.report({ kind: 'sandbox-cleaned-up', leftovers: [] })
  await asked.promise
  for (let turn = 0; turn < 10; turn++) await nextTurn()
  expect(reports).toHaveLength(2)
  written.resolve()
  await outbox.drained(source)
  expect(reports).toHaveLength(3)
})

test('a fenced epoch drops what it has and is told', async () => {
  const { outbox } = newOutbox(() => ({ fenced: true }))
  const source = newSource()
  outbox.attach(source)
  source.journal.report(ended, ended)
  await outbox.drained(source)
  expect(source.fenced).toBe(true)
  expect(source.journal.state.facts).toEqual([])
})

test('stopping leaves facts that are not accepted in the journal', async () => {
  const { outbox } = newOutbox(() => {
    throw new Error('the control plane is away')
  })
  const source = newSource()
  outbox.attach(source)
  source.journal.report(ended)
  const drained = outbox.drained(source)
  await outbox.stop()
  expect(await drained).toBe(false)
  expect(source.journal.state.facts).toHaveLength(1)
})

test('a report takes what fits, and at least one fact', () => {
  const long = (factSeq: number) => ({
    factSeq,
    observedAtMs: 0,
    ...ended,
    ending: { ...ended.ending, reason: 'x'.repeat(200_000) },
  })
  expect(firstFew([long(1), long(2)])).toHaveLength(1)
  expect(
    firstFew(Array.from({ length: 150 }, (_, i) => ({ factSeq: i, observedAtMs: 0, ...started }))),
  ).toHaveLength(100)
  expect(firstFew([])).toEqual([])
})
