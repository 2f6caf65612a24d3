import { expect, test } from '@jest/globals'
import { Places } from './places.js'

const never = new AbortController().signal

function work() {
  const done = Promise.withResolvers<string>()
  let begun = false
  return {
    ...done,
    get begun() {
      return begun
    },
    begin: () => {
      begun = true
      return done.promise
    },
  }
}

test('only so many go on at a time, in the order in which they came, also after one has failed', async () => {
  const places = new Places(2)
  const all = [work(), work(), work(), work()]
  const results = all.map(({ begin }) => places.run(never, begin))
  expect(all.map(({ begun }) => begun)).toEqual([true, true, false, false])
  all[1]!.reject(new Error('broken'))
  await expect(results[1]).rejects.toThrow('broken')
  expect(all.map(({ begun }) => begun)).toEqual([true, true, true, false])
  all[0]!.resolve('done')
  expect(await results[0]).toBe('done')
  expect(all[3]!.begun).toBe(true)
  all[2]!.resolve('third')
  all[3]!.resolve('fourth')
  expect(await Promise.all([results[2], results[3]])).toEqual(['third', 'fourth'])
})

test('one that is aborted while it waits leaves the queue, and its place goes to nobody twice', async () => {
  const places = new Places(1)
  const [first, second, third] = [work(), work(), work()]
  const abort = new AbortController()
  const begun = places.run(never, first.begin)
  const aborted = places.run(abort.signal, second.begin)
  const last = places.run(never, third.begin)
  abort.abort(new Error('not wanted any more'))
  await expect(aborted).rejects.toThrow('not wanted any more')
  first.resolve('done')
  await begun
  expect([second.begun, third.begun]).toEqual([false, true])
  third.resolve('last')
  expect(await last).toBe('last')
  await expect(places.run(abort.signal, second.begin)).rejects.toThrow('not wanted any more')
})
