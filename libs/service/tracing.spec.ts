import { afterEach, expect, test } from '@jest/globals'
import { correlate, correlation, correlationFields } from './correlation.js'
import { beginSpan, startTracing, traced } from './tracing.js'

let stop = async () => {}
afterEach(() => stop())

const CALLERS = '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01'

test("without an endpoint a caller's trace is handed on as it came, and work is done as it is", async () => {
  stop = await startTracing('test', {})
  await correlate({ traceparent: CALLERS }, async () => {
    expect(await traced('work', {}, async () => correlation().traceparent)).toBe(CALLERS)
    beginSpan('more')('FAILED')
  })
  await expect(traced('work', {}, () => Promise.reject(new Error('as it was')))).rejects.toThrow('as it was')
})

test('fields go along with the work, the inner ones first, and end with it', async () => {
  await correlate({ tenant: 'acme', commandId: 'c-1' }, async () => {
    await new Promise((resolve) => setTimeout(resolve, 1))
    correlate({ commandId: 'c-2', traceparent: CALLERS }, () =>
      expect(correlationFields()).toEqual({
        tenant: 'acme',
        commandId: 'c-2',
        traceId: CALLERS.slice(3, 35),
      }),
    )
    expect(correlationFields()).toEqual({ tenant: 'acme', commandId: 'c-1' })
  })
  expect(correlationFields()).toEqual({})
})

test('a collector that is away holds up neither the work nor the end', async () => {
  stop = await startTracing('test', { OTEL_EXPORTER_OTLP_ENDPOINT: 'http://127.0.0.1:9' })
  const inside = await correlate({ traceparent: CALLERS }, () =>
    traced('work', {}, async () => correlation().traceparent),
  )
  expect(inside).toMatch(/^00-0af7651916cd43dd8448eb211c80319c-(?!b7ad6b7169203331)[0-9a-f]{16}-01$/)
  await stop()
})
