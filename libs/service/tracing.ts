/**
 * Traces by OpenTelemetry, sent as OTLP over HTTP. Only when OTEL_EXPORTER_OTLP_ENDPOINT is set: without it none of it
 * is even loaded, a span costs one comparison, and a caller's traceparent is handed on as it came.
 *
 * The parent of a span, and what goes out in headers, is the traceparent of the correlation.
 */

import type { Attributes, Span, SpanContext, SpanKind, Tracer } from '@opentelemetry/api'
import { correlate, correlation } from './correlation.js'

type Otel = typeof import('@opentelemetry/api')

export interface SpanOptions {
  /** `internal` when it is left out. */
  kind?: 'server' | 'client'
  /** Ids and words of ours: never what a tenant runs, or a value of env. */
  attributes?: Attributes
}

let tracing: { otel: Otel; tracer: Tracer } | null = null

/** A dead collector must not hold up the end of a service. */
const FLUSH_MS = 3_000

/**
 * Starts to keep spans, if the environment asks for it. OTEL_EXPORTER_OTLP_HEADERS, OTEL_TRACES_SAMPLER and their like
 * mean what OpenTelemetry says. Resolves with what ends it, after the last spans are sent.
 */
export async function startTracing(service: string, env = process.env): Promise<() => Promise<void>> {
  if (!env.OTEL_EXPORTER_OTLP_ENDPOINT && !env.OTEL_EXPORTER_OTLP_TRACES_ENDPOINT) return async () => {}
  const [otel, sdk, { OTLPTraceExporter }, { resourceFromAttributes }] = await Promise.all([
    import('@opentelemetry/api'),
    import('@opentelemetry/sdk-trace-base'),
    import('@opentelemetry/exporter-trace-otlp-http'),
    import('@opentelemetry/resources'),
  ])
  const provider = new sdk.BasicTracerProvider({
    resource: resourceFromAttributes({ 'service.namespace': 'sandtrail', 'service.name': service }),
    spanProcessors: [new sdk.BatchSpanProcessor(new OTLPTraceExporter())],
  })
  tracing = { otel, tracer: provider.getTracer('sandtrail') }
  return async () => {
    tracing = null
    const late = new Promise<void>((resolve) => setTimeout(resolve, FLUSH_MS).unref())
    await Promise.race([provider.shutdown().catch(() => {}), late])
  }
}

/** Does `work` in a span of its own, a child of the one that it is done in. What it throws marks the span. */
export async function traced<T>(name: string, options: SpanOptions, work: () => Promise<T>): Promise<T> {
  if (tracing === null) return work()
  const span = begin(tracing, name, options)
  try {
    return await correlate({ traceparent: formatTraceparent(span.spanContext()) }, work)
  } catch (error) {
    fail(tracing, span, codeOf(error))
    throw error
  } finally {
    span.end()
  }
}

/** For work that ends elsewhere: call the result once, with a code when it failed. */
export function beginSpan(
  name: string,
  options: SpanOptions = {},
): (failure?: string | null, more?: Attributes) => void {
  const own = tracing
  if (own === null) return () => {}
  const span = begin(own, name, options)
  return (failure = null, more = {}) => {
    span.setAttributes(more)
    if (failure !== null) fail(own, span, failure)
    span.end()
  }
}

function begin(
  { otel, tracer }: NonNullable<typeof tracing>,
  name: string,
  { kind, attributes = {} }: SpanOptions,
): Span {
  const { tenant, commandId, traceparent } = correlation()
  const parent = parseTraceparent(traceparent)
  const kinds: Record<string, SpanKind> = { server: otel.SpanKind.SERVER, client: otel.SpanKind.CLIENT }
  return tracer.startSpan(
    name,
    {
      kind: kinds[kind ?? ''] ?? otel.SpanKind.INTERNAL,
      attributes: {
        ...(tenant === undefined ? {} : { 'sandtrail.tenant': tenant }),
        ...(commandId === undefined ? {} : { 'sandtrail.command_id': commandId }),
        ...attributes,
      },
    },
    parent === null ? otel.ROOT_CONTEXT : otel.trace.setSpanContext(otel.ROOT_CONTEXT, parent),
  )
}

/** The code alone: a message may name what is the tenant's. */
function fail({ otel }: NonNullable<typeof tracing>, span: Span, code: string): void {
  span.setStatus({ code: otel.SpanStatusCode.ERROR, message: code })
}

function codeOf(error: unknown): string {
  const { code } = (error ?? {}) as { code?: unknown }
  return typeof code === 'string' ? code : 'INTERNAL'
}

const TRACEPARENT = /^00-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})$/

function parseTraceparent(text: string | undefined): SpanContext | null {
  const [, traceId, spanId, flags] = TRACEPARENT.exec(text ?? '') ?? []
  if (traceId === undefined || spanId === undefined || flags === undefined) return null
  return { traceId, spanId, traceFlags: Number.parseInt(flags, 16), isRemote: true }
}

function formatTraceparent({ traceId, spanId, traceFlags }: SpanContext): string {
  return `00-${traceId}-${spanId}-${traceFlags.toString(16).padStart(2, '0')}`
}
