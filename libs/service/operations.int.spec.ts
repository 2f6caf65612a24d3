import { afterEach, beforeEach, expect, test } from '@jest/globals'
import { createLog } from './log.js'
import { counter } from './metrics.js'
import { Operations } from './operations.js'

const counted = counter('test_things_total', 'Things.', ['kind'])
let operations: Operations
let url: string
beforeEach(async () => {
  operations = new Operations(createLog('test', 'error'))
  url = `http://127.0.0.1:${await operations.listen('127.0.0.1', 0)}`
})
afterEach(() => operations.close())

const get = async (path: string) => {
  const response = await fetch(url + path)
  return { status: response.status, text: await response.text() }
}

test('it is alive from the first moment, ready when it has started and its checks are good, and not while it stops', async () => {
  let fails = true
  operations.check('database', async () => {
    if (fails) throw new Error('is away')
    return 'answers'
  })
  expect((await get('/healthz')).status).toBe(200)
  expect(await get('/readyz')).toMatchObject({ status: 503, text: expect.stringContaining('starting') })

  operations.started()
  const unready = await get('/readyz')
  expect(unready.status).toBe(503)
  expect(JSON.parse(unready.text)).toEqual({
    ok: false,
    checks: [
      { name: 'process', ok: true, detail: 'running' },
      { name: 'database', ok: false, detail: 'is away' },
    ],
  })
  fails = false
  expect((await get('/readyz')).status).toBe(200)

  operations.stopping()
  expect((await get('/readyz')).status).toBe(503)
  expect((await get('/healthz')).status).toBe(200)
})

test('a check that never answers makes it unready, and does not hang the probe', async () => {
  operations.check('broker', () => new Promise(() => {}))
  operations.started()
  expect(await get('/readyz')).toMatchObject({
    status: 503,
    text: expect.stringContaining('no answer in time'),
  })
})

test('metrics are what was counted and what is read at each scrape', async () => {
  let depth = 3
  operations.gauge('test_depth', 'Depth.', [], () => [{ value: depth }])
  operations.gauge('test_states', 'By state.', ['state'], async () => [
    { labels: { state: 'open' }, value: 2 },
  ])
  counted.inc({ kind: 'a' })
  const first = (await get('/metrics')).text
  expect(first).toMatch(/^test_depth 3$/m)
  expect(first).toMatch(/^test_states\{state="open"\} 2$/m)
  expect(first).toMatch(/^test_things_total\{kind="a"\} 1$/m)
  expect(first).toMatch(/^process_resident_memory_bytes \d+$/m)
  depth = 4
  const second = (await get('/metrics')).text
  expect(second).toMatch(/^test_depth 4$/m)
  expect(second).toMatch(/^sandtrail_event_loop_lag_seconds\{quantile="1"\} /m)
})

test('what cannot be read has no value, neither the last one nor zero, and hides nothing else', async () => {
  let fails = false
  operations.gauge('test_fragile', 'Fails.', [], () => {
    if (fails) throw new Error('away')
    return [{ value: 1 }]
  })
  operations.gauge('test_sound', 'Does not.', [], () => [{ value: 1 }])
  expect((await get('/metrics')).text).toMatch(/^test_fragile 1$/m)
  fails = true
  const text = (await get('/metrics')).text
  expect(text).not.toMatch(/^test_fragile\b/m)
  expect(text).toMatch(/^test_sound 1$/m)
})

test('a port that is taken is told, and anything else is refused', async () => {
  const port = Number(new URL(url).port)
  const second = new Operations(createLog('test', 'error'))
  await expect(second.listen('127.0.0.1', port)).rejects.toMatchObject({ code: 'EADDRINUSE' })
  second.close()
  expect((await get('/')).status).toBe(404)
  expect((await fetch(`${url}/metrics`, { method: 'POST' })).status).toBe(405)
})
