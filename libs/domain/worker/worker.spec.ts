import { expect, test } from '@jest/globals'
import fc from 'fast-check'
import { nextStatus } from '../aggregate.js'
import { fold, past } from '../testing.js'
import {
  decideWorker,
  WORKER_TRANSITIONS,
  type WorkerCommand,
  type WorkerEvent,
  workerAggregate,
} from './worker.js'

const cordon: WorkerCommand = { type: 'CordonWorker', reason: 'new kernel' }
const drain = (timeoutMs: number | null): WorkerCommand => ({ type: 'DrainWorker', reason: null, timeoutMs })
const commands = fc.constantFrom(
  cordon,
  drain(null),
  drain(1_000),
  { type: 'RecordDrained' } as const,
  {
    type: 'UncordonWorker',
  } as const,
)

function after(...done: WorkerCommand[]) {
  const events: WorkerEvent[] = []
  for (const command of done) events.push(...decideWorker(fold(workerAggregate, events), command))
  return { events, state: fold(workerAggregate, events) }
}

test('cordoning twice happens once; uncordoning what is active is nothing', () => {
  expect(after(cordon, cordon).events).toHaveLength(1)
  expect(after({ type: 'UncordonWorker' }).events).toEqual([])
})

test('the deadline of a drain counts from its event, and a later request moves it', () => {
  const { events, state } = after(cordon, drain(60_000))
  expect(state).toEqual({ status: 'draining', deadlineMs: past(events)[1]!.atMs + 60_000 })
  expect(after(cordon, drain(60_000), drain(null)).state).toEqual({ status: 'draining', deadlineMs: null })
})

test('a cordon stops a drain, and drained stays so until it is uncordoned', () => {
  expect(after(drain(1), cordon).state).toEqual({ status: 'cordoned' })
  expect(after(drain(1), cordon, { type: 'RecordDrained' }).state).toEqual({ status: 'cordoned' })
  const drained = [drain(1), { type: 'RecordDrained' } as const]
  expect(after(...drained, cordon).state).toEqual({ status: 'drained' })
  expect(after(...drained, { type: 'UncordonWorker' }).state).toEqual({ status: 'active' })
})

test('every event is a step of the table', () => {
  fc.assert(
    fc.property(fc.array(commands, { maxLength: 20 }), (list) => {
      let status: Parameters<typeof nextStatus>[1] = 'active'
      for (const { type } of after(...list).events) {
        const next = nextStatus(WORKER_TRANSITIONS, status as 'active', type)
        expect([status, type, next]).not.toContain(null)
        status = next!
      }
      expect(after(...list).state.status).toBe(status)
    }),
  )
})
