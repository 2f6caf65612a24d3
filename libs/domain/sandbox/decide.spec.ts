import { describe, expect, test } from '@jest/globals'
import fc from 'fast-check'
import { nextStatus } from '../aggregate.js'
import { fold, outcomeOf } from '../testing.js'
import type { EndingReport, SandboxCommand } from './commands.js'
import { decideSandbox } from './decide.js'
import type { SandboxEvent } from './events.js'
import { SANDBOX_TERMINAL_EVENTS } from './events.js'
import { sandboxAggregate } from './evolve.js'
import { type SandboxSpec, STOP_DEADLINE_MS } from './spec.js'
import { SANDBOX_TRANSITIONS } from './state.js'

const spec: SandboxSpec = {
  runtime: 'gvisor',
  image: { imageId: 'im-01ARZ3NDEKTSV4RRFFQ69G5FAV', ref: 'base' },
  command: null,
  workdir: null,
  user: null,
  envNames: [],
  resources: { cpuMillis: 125, memoryBytes: 128 * 1024 ** 2, diskBytes: 1024 ** 3 },
  cpuLimitMillis: null,
  diskLimitBytes: 1024 ** 3,
  timeoutMs: 300_000,
  idleTimeoutMs: null,
  network: 'none',
  volumes: [],
  name: null,
  tags: {},
}
const placement = { workerId: 'wk-01ARZ3NDEKTSV4RRFFQ69G5FAV' as const, epoch: 1 }
const create: SandboxCommand = { type: 'CreateSandbox', spec, placement }
const started: SandboxCommand = { type: 'ReportStarted', ...placement, volumes: [] }
const terminate: SandboxCommand = { type: 'TerminateSandbox', reason: 'terminate' }
const ended = (ending: EndingReport): SandboxCommand => ({
  type: 'ReportEnded',
  ...placement,
  ending,
  staged: [],
})

/** The events that a series of commands leaves, and the last outcome. */
function live(...commands: SandboxCommand[]) {
  const events: SandboxEvent[] = []
  let last: SandboxEvent[] | string = []
  for (const command of commands) {
    last = outcomeOf(() => decideSandbox(fold(sandboxAggregate, events), command))
    if (typeof last !== 'string') events.push(...last)
  }
  return { types: events.map(({ type }) => type), last, state: fold(sandboxAggregate, events), events }
}

test('a create is accepted and placed at once', () => {
  expect(live(create).types).toEqual(['SandboxCreated', 'SandboxPlaced'])
})

test('terminate gives a running sandbox a deadline to stop', () => {
  expect(live(create, started, terminate).last).toEqual([
    {
      type: 'SandboxStopRequested',
      typeVersion: 1,
      data: { reason: 'terminate', deadlineMs: STOP_DEADLINE_MS },
    },
  ])
})

test('terminate twice is not an error and changes nothing', () => {
  expect(live(create, terminate, terminate).last).toEqual([])
})

test('a terminate that overtakes the start still wins', () => {
  const { types, state } = live(create, terminate, started, ended({ kind: 'stopped' }))
  expect(types.at(-1)).toBe('SandboxTerminated')
  expect(state).toMatchObject({ status: 'ended', exitCode: 137 })
})

test('an own exit that came before the stop reached it is told as what it was', () => {
  const { types, state } = live(create, started, terminate, ended({ kind: 'exited', code: 3, signal: null }))
  expect(types.at(-1)).toBe('SandboxFinished')
  expect(state).toMatchObject({ exitCode: 3 })
})

test('a start that is too late fails with the step, it is not called terminated', () => {
  const late: SandboxCommand = { type: 'TerminateSandbox', reason: 'start-deadline' }
  expect(live(create, late, ended({ kind: 'stopped' })).last).toMatchObject([
    { type: 'SandboxFailed', data: { step: 'start', code: 'DEADLINE_EXCEEDED' } },
  ])
  expect(live(create, started, late).last).toEqual([])
})

test.each<[EndingReport, string, number]>([
  [{ kind: 'exited', code: 0, signal: null }, 'SandboxFinished', 0],
  [{ kind: 'exited', code: null, signal: 9 }, 'SandboxFinished', 137],
  [{ kind: 'stopped' }, 'SandboxTerminated', 137],
  [{ kind: 'timed-out', reason: 'idle' }, 'SandboxTimedOut', 124],
  [{ kind: 'failed', step: 'run', code: 'OUT_OF_MEMORY', message: 'm' }, 'SandboxFailed', 137],
  [{ kind: 'failed', step: 'netns', code: 'INTERNAL', message: 'm' }, 'SandboxFailed', 125],
])('%j ends it as %s with %i', (ending, type, exitCode) => {
  expect(live(create, started, ended(ending)).last).toMatchObject([{ type, data: { exitCode } }])
})

test('tags are replaced as a whole, also after the end, and the same again changes nothing', () => {
  const tag = (tags: Record<string, string>): SandboxCommand => ({ type: 'TagSandbox', tags })
  const { last, state } = live(create, tag({ a: '1', b: '2' }), ended({ kind: 'stopped' }), tag({ b: '2' }))
  expect(last).toEqual([{ type: 'SandboxTagged', typeVersion: 1, data: { tags: { b: '2' } } }])
  expect(state).toMatchObject({ status: 'ended', spec: { tags: { b: '2' } } })
  expect(live(create, tag({ a: '1', b: '2' }), tag({ b: '2', a: '1' })).last).toEqual([])
  expect(live(tag({})).last).toBe('SANDBOX_NOT_FOUND')
})

test('a living sandbox without a name gets one, for its life', () => {
  const name = (text: string): SandboxCommand => ({ type: 'NameSandbox', name: text })
  expect(live(create, name('web')).state).toMatchObject({ spec: { name: 'web' } })
  expect(live(create, name('web'), terminate, name('web')).last).toEqual([])
  expect(live(create, name('web'), name('other')).last).toBe('ALREADY_NAMED')
  expect(live(create, ended({ kind: 'stopped' }), name('web')).last).toBe('SANDBOX_GONE')
})

test('a report of another epoch is fenced', () => {
  expect(live(create, { ...started, epoch: 2 } as SandboxCommand).last).toBe('STALE_EPOCH')
})

test('a lost sandbox that comes back tells how it ended, once, and what it staged', () => {
  const staged = [{ volumeId: 'vo-01ARZ3NDEKTSV4RRFFQ69G5FAV' as const, commitId: 'c1' }]
  const late: SandboxCommand = { type: 'ReportEnded', ...placement, ending: { kind: 'stopped' }, staged }
  const lost: SandboxCommand = { type: 'DeclareLost', epoch: 1, reason: 'silent for 30 s' }
  expect(live(create, started, lost, late).last).toMatchObject([
    { type: 'SandboxEndReportedLate', data: { staged } },
  ])
  expect(live(create, started, lost, late, late).last).toEqual([])
})

describe('whatever comes, in whatever order', () => {
  const ending = fc.oneof<fc.Arbitrary<EndingReport>[]>(
    fc.record({
      kind: fc.constant('exited' as const),
      code: fc.integer({ min: 0, max: 255 }),
      signal: fc.constant(null),
    }),
    fc.constant({ kind: 'stopped' }),
    fc.constantFrom('lifetime' as const, 'idle' as const).map((reason) => ({ kind: 'timed-out', reason })),
    fc.constant({ kind: 'failed', step: 's', code: 'INTERNAL', message: 'm' }),
  )
  const epoch = fc.constantFrom(1, 1, 1, 2)
  const command = fc.oneof<fc.Arbitrary<SandboxCommand>[]>(
    fc.constant(create),
    fc
      .constantFrom('terminate' as const, 'start-deadline' as const)
      .map((reason) => ({ type: 'TerminateSandbox', reason })),
    epoch.map((epoch) => ({ type: 'ReportStarted', workerId: placement.workerId, epoch, volumes: [] })),
    fc.tuple(epoch, ending).map(([epoch, ending]) => ({
      type: 'ReportEnded',
      workerId: placement.workerId,
      epoch,
      ending,
      staged: [],
    })),
    epoch.map((epoch) => ({ type: 'ReportCleanedUp', workerId: placement.workerId, epoch, leftovers: [] })),
    epoch.map((epoch) => ({ type: 'DeclareLost', epoch, reason: 'r' })),
    fc
      .constantFrom<Record<string, string>[]>({}, { a: '1' }, { b: '1' })
      .map((tags) => ({ type: 'TagSandbox', tags })),
    fc.constantFrom('one', 'two').map((name) => ({ type: 'NameSandbox', name })),
  )

  test('the table allows every step, and there is at most one terminal event', () => {
    fc.assert(
      fc.property(fc.array(command, { maxLength: 30 }), (commands) => {
        const { events } = live(...commands)
        let status: Parameters<typeof nextStatus>[1] = 'absent'
        for (const event of events) {
          const next = nextStatus(SANDBOX_TRANSITIONS, status as 'absent', event.type)
          expect({ from: status, event: event.type, next }).not.toMatchObject({ next: null })
          status = next!
        }
        const terminals = events.filter(({ type }) =>
          (SANDBOX_TERMINAL_EVENTS as readonly string[]).includes(type),
        )
        expect(terminals.length).toBeLessThanOrEqual(1)
        expect(fold(sandboxAggregate, events).status).toBe(status)
      }),
      { numRuns: 2_000 },
    )
  })

  test('a command that is sent twice in a row has the effect of one', () => {
    fc.assert(
      fc.property(fc.array(command, { maxLength: 20 }), command, (commands, last) => {
        const once = live(...commands, last)
        const twice = live(...commands, last, last)
        if (last.type !== 'CreateSandbox') expect(twice.types).toEqual(once.types)
      }),
      { numRuns: 1_000 },
    )
  })

  test('terminate is legal in every state that is not the end', () => {
    fc.assert(
      fc.property(fc.array(command, { maxLength: 20 }), (commands) => {
        const { state, last } = live(create, ...commands, terminate)
        expect(Array.isArray(last)).toBe(true)
        expect(['stopping', 'ended']).toContain(state.status)
      }),
    )
  })
})
