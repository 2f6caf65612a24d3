import { expect, test } from '@jest/globals'
import { expandTypes } from './event-types.js'

test.each([
  [['ExecExited'], ['ExecExited']],
  [['exec.exited', 'ExecExited'], ['ExecExited']],
  [['SandboxSt*'], ['SandboxStarted', 'SandboxStopRequested']],
  [['volume.c*'], ['VolumeCreated', 'VolumeCommitRequested', 'VolumeCommitted', 'VolumeCommitFailed']],
])('%j names %j', (patterns, types) => {
  expect(new Set(expandTypes(patterns))).toEqual(new Set(types))
})

test('no patterns are all types, and so is a star', () => {
  expect(expandTypes(undefined)).toBeUndefined()
  expect(expandTypes(['*'])).toContain('CommandRejected')
})

test.each(['SandboxStared', 'sandboxstarted', 'exec.exited.now', 'Sand*Started', '************z', '(.*)*'])(
  '%j fits nothing',
  (pattern) => {
    expect(() => expandTypes([pattern])).toThrow(expect.objectContaining({ code: 'INVALID_ARGUMENT' }))
  },
)

test('a list without end is refused', () => {
  expect(() => expandTypes(new Array(1000).fill('Exec*'))).toThrow(/at most/)
})
