import { expect, jest, test } from '@jest/globals'
import { Loop } from './loop.js'

/** A step whose runs the test lets end one by one. */
function controlled() {
  const waiting: ((more: boolean) => void)[] = []
  const arrivals: (() => void)[] = []
  let runs = 0
  return {
    step: () =>
      new Promise<boolean>((resolve) => {
        runs += 1
        waiting.push(resolve)
        arrivals.shift()?.()
      }),
    async begun() {
      if (waiting.length === 0) await new Promise<void>((resolve) => arrivals.push(resolve))
    },
    end(more = false) {
      waiting.shift()?.(more)
    },
    runs: () => runs,
  }
}

test('a nudge during a step makes it run once more, however many there were', async () => {
  const { step, begun, end, runs } = controlled()
  const loop = new Loop(step, { pollMs: 3_600_000 })
  loop.start()
  await begun()
  for (let i = 0; i < 5; i++) loop.nudge()
  end()
  await begun()
  expect(runs()).toBe(2)
  const stopped = loop.stop()
  end()
  await stopped
  expect(runs()).toBe(2)
})

test('runs again at once while there is more, and after the poll when nobody nudges', async () => {
  const { step, begun, end, runs } = controlled()
  const loop = new Loop(step, { pollMs: 1 })
  loop.start()
  await begun()
  end(true)
  await begun()
  end(false)
  await begun()
  expect(runs()).toBe(3)
  const stopped = loop.stop()
  end()
  await stopped
})

test('goes on after a failure, which it tells', async () => {
  const errors: unknown[] = []
  let runs = 0
  const failing = async () => {
    runs += 1
    if (runs === 1) throw new Error('once')
    return false
  }
  const loop = new Loop(failing, { pollMs: 3_600_000, onError: (error) => errors.push(error) })
  loop.start()
  while (runs < 2) await new Promise((resolve) => setTimeout(resolve, 1))
  await loop.stop()
  expect(errors).toEqual([new Error('once')])
})

test('nudges do not cut the pause after a failure short, a stop does', async () => {
  jest.useFakeTimers()
  try {
    let runs = 0
    const failing = async () => {
      runs += 1
      throw new Error('always')
    }
    const loop = new Loop(failing, { pollMs: 3_600_000 })
    loop.start()
    for (let i = 0; i < 20; i++) {
      loop.nudge()
      await jest.advanceTimersByTimeAsync(1)
    }
    expect(runs).toBe(1)
    await jest.advanceTimersByTimeAsync(100)
    expect(runs).toBe(2)
    loop.nudge()
    await loop.stop()
  } finally {
    jest.useRealTimers()
  }
})

test('start and stop may be repeated', async () => {
  const loop = new Loop(async () => false, { pollMs: 1 })
  loop.start()
  loop.start()
  await loop.stop()
  await loop.stop()
  loop.start()
  await loop.stop()
})
