import { expect, test } from '@jest/globals'
import fc from 'fast-check'
import { type Aggregate, type Decided, nextStatus, type Transition } from './aggregate.js'
import {
  decideExec,
  EXEC_TERMINAL_EVENTS,
  EXEC_TRANSITIONS,
  type ExecCommand,
  type ExecSpec,
  execAggregate,
} from './exec/index.js'
import { decideImage, IMAGE_TRANSITIONS, type ImageCommand, imageAggregate } from './image/index.js'
import {
  decideSnapshot,
  SNAPSHOT_TRANSITIONS,
  type SnapshotCommand,
  snapshotAggregate,
} from './snapshot/index.js'
import { fold, outcomeOf } from './testing.js'
import { decideVolume, VOLUME_TRANSITIONS, type VolumeCommand, volumeAggregate } from './volume/index.js'

const ULID = '01ARZ3NDEKTSV4RRFFQ69G5FAV'
const sandboxId = `sb-${ULID}` as const
const workerId = `wk-${ULID}` as const
const other = 'wk-01BX5ZZKBKACTAV9WEVGEMMVRZ' as const

/** Drives random commands and checks that every event is a step of the table, and that `evolve` follows it. */
function followsItsTable<S extends { status: string }, C, E extends Decided<string, object>>(
  aggregate: Aggregate<S>,
  decide: (state: S, command: C) => E[],
  table: readonly Transition<string>[],
  command: fc.Arbitrary<C>,
  check: (events: E[], state: S) => void = () => {},
) {
  fc.assert(
    fc.property(fc.array(command, { maxLength: 25 }), (commands) => {
      const events: E[] = []
      let status = 'absent'
      for (const next of commands) {
        const outcome = outcomeOf(() => decide(fold(aggregate, events), next))
        if (typeof outcome === 'string') continue
        for (const event of outcome) {
          const to = nextStatus(table, status, event.type)
          expect({ from: status, event: event.type, to }).not.toMatchObject({ to: null })
          status = to!
          events.push(event)
        }
      }
      const state = fold(aggregate, events)
      expect(state.status).toBe(status)
      check(events, state)
    }),
    { numRuns: 1_000 },
  )
}

test('an exec follows its table and ends at most once', () => {
  const spec: ExecSpec = {
    sandboxId,
    epoch: 1,
    argv: ['true'],
    workdir: null,
    user: null,
    envNames: [],
    pty: null,
    stdin: 'closed',
    timeoutMs: null,
  }
  const epoch = fc.constantFrom(1, 1, 2)
  const none = { bytes: 0, droppedBytes: 0, sha256: '' }
  followsItsTable(
    execAggregate,
    decideExec,
    EXEC_TRANSITIONS,
    fc.oneof<fc.Arbitrary<ExecCommand>[]>(
      fc.constant({ type: 'RequestExec', spec }),
      fc.integer({ min: -1, max: 70 }).map((signal) => ({ type: 'SignalExec', signal })),
      epoch.map((epoch) => ({ type: 'ReportExecStarted', epoch, pid: 7 })),
      epoch.map((epoch) => ({
        type: 'ReportExecEnded',
        epoch,
        ending: { kind: 'exited', exitCode: 0, signal: null, reason: 'exit', stdout: none, stderr: none },
      })),
      epoch.map((epoch) => ({
        type: 'ReportExecEnded',
        epoch,
        ending: { kind: 'lost', mayHaveRun: true, reason: 'r' },
      })),
    ),
    (events) => {
      const ends = events.filter(({ type }) => (EXEC_TERMINAL_EVENTS as readonly string[]).includes(type))
      expect(ends.length).toBeLessThanOrEqual(1)
    },
  )
})

test('an image follows its table, and is never ready without a replica', () => {
  followsItsTable(
    imageAggregate,
    decideImage,
    IMAGE_TRANSITIONS,
    fc.oneof<fc.Arbitrary<ImageCommand>[]>(
      fc.constant({ type: 'ImportImage', name: 'a', sha256: 'f'.repeat(64), bytes: 1 }),
      fc.constantFrom(workerId, other).map((workerId) => ({ type: 'ReportReplicated', workerId })),
      fc.constant({ type: 'CompleteImport' }),
      fc.constant({ type: 'FailImport', code: 'INTERNAL', message: 'm' }),
      fc.constant({ type: 'RemoveImage' }),
      fc.constant({
        type: 'RecordSnapshotImage',
        source: { kind: 'snapshot', snapshotId: `sn-${ULID}`, sandboxId, parent: `im-${ULID}` },
        workerId,
      }),
    ),
    (_, state) => {
      if (state.status === 'ready') expect(new Set(state.replicas).size).toBe(state.replicas.length)
      if (state.status === 'ready') expect(state.replicas.length).toBeGreaterThan(0)
    },
  )
})

test('a snapshot follows its table', () => {
  const request = {
    sandboxId,
    workerId,
    epoch: 1,
    imageId: `im-${ULID}` as const,
    parent: `im-${ULID}` as const,
  }
  followsItsTable(
    snapshotAggregate,
    decideSnapshot,
    SNAPSHOT_TRANSITIONS,
    fc.constantFrom<SnapshotCommand>(
      { type: 'RequestSnapshot', ...request },
      { type: 'CompleteSnapshot', tookMs: 3 },
      { type: 'FailSnapshot', code: 'INTERNAL', message: 'm' },
    ),
  )
})

const versions = (from: number, to: number) =>
  Array.from({ length: to - from + 1 }, (_, index) => ({
    version: from + index,
    commitId: `c${from + index}`,
    sandboxId,
    base: from + index - 1,
    changedPaths: 1,
    overwritten: [],
    overwrittenTotal: 0,
    trigger: 'commit' as const,
  }))

test('a volume follows its table and its versions have no gap', () => {
  followsItsTable(
    volumeAggregate,
    decideVolume,
    VOLUME_TRANSITIONS,
    fc.oneof<fc.Arbitrary<VolumeCommand>[]>(
      fc.constant({ type: 'CreateVolume', name: 'v', workerId }),
      fc.integer({ min: 1, max: 9 }).map((n) => ({ type: 'RequestCommit', commitId: `c${n}`, sandboxId })),
      fc
        .tuple(fc.integer({ min: 1, max: 4 }), fc.integer({ min: 1, max: 8 }))
        .map(([from, to]) => ({ type: 'RecordVersions', versions: versions(from, to) })),
      fc.integer({ min: 1, max: 9 }).map((n) => ({
        type: 'FailCommit',
        commitId: `c${n}`,
        code: 'INTERNAL',
        message: 'm',
        wasStaged: n % 2 === 0,
      })),
      fc.constant({ type: 'RecordReload', sandboxId, fromVersion: 0, toVersion: 1 }),
    ),
    (events, state) => {
      const numbers = events.flatMap((event) =>
        event.type === 'VolumeCommitted' ? [event.data.version] : [],
      )
      expect(numbers).toEqual(numbers.map((_, index) => index + 1))
      if (state.status === 'ready') expect(state.version).toBe(numbers.length)
    },
  )
})

test('entries of the log that the stream has already are skipped, a gap is refused', () => {
  const events = decideVolume(volumeAggregate.initial, { type: 'CreateVolume', name: 'v', workerId })
  const state = fold(volumeAggregate, [
    ...events,
    ...versions(1, 2).map((data) => ({ type: 'VolumeCommitted', typeVersion: 1, data })),
  ])
  const record = (from: number, to: number) =>
    outcomeOf(() => decideVolume(state, { type: 'RecordVersions', versions: versions(from, to) }))
  expect(record(1, 3)).toMatchObject([{ type: 'VolumeCommitted', data: { version: 3 } }])
  expect(record(4, 4)).toBe('INVALID_ARGUMENT')
})
