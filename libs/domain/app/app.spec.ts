import { expect, test } from '@jest/globals'
import { fold, outcomeOf } from '../testing.js'
import { type AppCommand, type AppEvent, appAggregate, decideApp } from './app.js'

const spec = { name: 'web', environment: 'main', kind: 'ephemeral' as const, description: '' }
const create: AppCommand = { type: 'CreateApp', ...spec }
const stop: AppCommand = { type: 'StopApp', reason: 'requested' }

function live(...commands: AppCommand[]) {
  const events: AppEvent[] = []
  let last: AppEvent[] | string = []
  for (const command of commands) {
    last = outcomeOf(() => decideApp(fold(appAggregate, events), command))
    if (typeof last !== 'string') events.push(...last)
  }
  return { last, state: fold(appAggregate, events) }
}

test('an app runs until it is stopped, once, and keeps what it is', () => {
  expect(live(create).state).toEqual({ status: 'running', ...spec })
  expect(live(create, stop).last).toEqual([
    { type: 'AppStopped', typeVersion: 1, data: { reason: 'requested' } },
  ])
  expect(live(create, stop, { type: 'StopApp', reason: 'heartbeat-lost' }).last).toEqual([])
  expect(live(create, stop).state).toEqual({ status: 'stopped', ...spec })
})

test('a beat leaves no event, and a stopped app refuses it', () => {
  const beat: AppCommand = { type: 'BeatApp' }
  expect(live(create, beat).last).toEqual([])
  expect(live(create, stop, beat).last).toBe('APP_STOPPED')
  expect(live(beat).last).toBe('APP_NOT_FOUND')
  expect(live(stop).last).toBe('APP_NOT_FOUND')
})
