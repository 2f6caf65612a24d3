import { afterAll, beforeAll, expect, test } from '@jest/globals'
import { append } from './append.js'
import { readStream } from './read.js'
import { createTestDatabase, type TestDatabase } from './testing.js'
import { command, event, request, sandboxId } from './testing-requests.js'
import { type FiredTimer, TimerLoop } from './timer-loop.js'

let db: TestDatabase
beforeAll(async () => {
  db = await createTestDatabase()
})
afterAll(() => db.drop())

const set = (key: string, afterMs: number, kind: string, payload = {}) =>
  append(db.pool, request({ timers: { set: [{ key, afterMs, kind, payload }] } }))

const timer = async (key: string) => {
  const { rows } = await db.pool.query<{ due: Date; attempts: number }>(
    'select due, attempts from timers where key = $1',
    [key],
  )
  return rows[0] ?? null
}

async function until(condition: () => Promise<boolean> | boolean): Promise<void> {
  while (!(await condition())) await new Promise((resolve) => setTimeout(resolve, 5))
}

/** Runs loops with these handlers until the condition holds. */
async function whileRunning(loops: TimerLoop[], condition: () => Promise<boolean> | boolean): Promise<void> {
  for (const loop of loops) loop.start()
  await until(condition)
  await Promise.all(loops.map((loop) => loop.stop()))
}

test('a due timer fires with its payload and is consumed with the append it causes', async () => {
  const stream = sandboxId()
  await set('deadline:1', 20, 'deadline', { stream })
  const handler = async (fired: FiredTimer) => {
    await append(
      db.pool,
      request({
        stream: fired.payload.stream as string,
        command: command(fired.commandId),
        timers: { consume: [fired] },
      }),
    )
  }
  const loop = new TimerLoop(db.pool, { deadline: handler })
  await whileRunning([loop], async () => (await timer('deadline:1')) === null)
  expect(await readStream(db.pool, stream)).toHaveLength(1)
})

test('a hundred timers and two loops: each fires once', async () => {
  await Promise.all(Array.from({ length: 100 }, (_, i) => set(`many:${i}`, 0, 'many')))
  const fired: string[] = []
  const handler = async ({ key }: FiredTimer) => {
    fired.push(key)
  }
  const loops = [new TimerLoop(db.pool, { many: handler }), new TimerLoop(db.pool, { many: handler })]
  await whileRunning(loops, async () => fired.length >= 100 && (await timer('many:99')) === null)
  expect(new Set(fired).size).toBe(100)
  expect(fired).toHaveLength(100)
})

test('a cancelled timer does not fire, one set again fires at its new time', async () => {
  const fired: string[] = []
  const loop = new TimerLoop(db.pool, {
    moved: async ({ key }) => {
      fired.push(key)
    },
  })
  await set('gone', 0, 'moved')
  await append(db.pool, request({ timers: { cancel: ['gone'] } }))
  await set('far', 0, 'moved')
  await set('far', 3_600_000, 'moved')
  await set('near', 0, 'moved')
  await whileRunning([loop], () => fired.length > 0)
  expect(fired).toEqual(['near'])
  expect((await timer('far'))?.due.getTime()).toBeGreaterThan(Date.now() + 3_000_000)
})

test('a handler that fails is tried again later, under the same command id', async () => {
  const ids: string[] = []
  const errors: unknown[] = []
  const handler = async ({ commandId }: FiredTimer) => {
    ids.push(commandId)
    if (ids.length === 1) throw new Error('not yet')
  }
  await set('flaky', 0, 'flaky')
  const loop = new TimerLoop(db.pool, { flaky: handler }, (error) => errors.push(error))
  await whileRunning([loop], async () => (await timer('flaky')) === null)
  expect(ids).toHaveLength(2)
  expect(new Set(ids).size).toBe(1)
  expect(errors).toHaveLength(1)
})

test('a handler that waits for something is asked again later, which is no failure', async () => {
  let asked = 0
  const errors: unknown[] = []
  const handler = async () => (++asked === 1 ? ('again' as const) : ('done' as const))
  await set('waiting', 0, 'waiting')
  const loop = new TimerLoop(db.pool, { waiting: handler }, (error) => errors.push(error))
  await whileRunning([loop], async () => (await timer('waiting')) === null)
  expect(asked).toBe(2)
  expect(errors).toEqual([])
})

test('a handler consumes only the setting it was given', async () => {
  await set('idle', 0, 'idle')
  const handler = async (fired: FiredTimer) => {
    // An activity moves the timer while the handler is at work.
    await set('idle', 3_600_000, 'idle')
    const stream = sandboxId()
    const writes = [{ stream, expectedVersion: 0, events: [event()] }]
    await append(db.pool, request({ writes, timers: { consume: [fired] } }))
  }
  let done = false
  const loop = new TimerLoop(db.pool, {
    idle: async (fired) => {
      await handler(fired)
      done = true
    },
  })
  await whileRunning([loop], () => done)
  expect(await timer('idle')).toMatchObject({ attempts: 0 })
})
