/** Calls a handler, be it a plain function or one that Nest has wrapped in promises of observables. */

import { isObservable, lastValueFrom } from 'rxjs'
import { type Correlation, correlate } from '#libs/service'
import type { MessageContext } from './context.js'
import type { JsonObject } from './json.js'
import type { Handler } from './patterns.js'

/** The handler's last value; undefined when it gives none. Rejects with what the handler threw. */
export async function invoke(
  handler: Handler,
  body: JsonObject,
  context: MessageContext,
): Promise<object | undefined> {
  return correlate(correlationOf(context), () => call(handler, body, context))
}

/** What of a message its handler's log lines and messages carry on. */
export function correlationOf({ tenant, commandId, traceparent }: MessageContext): Correlation {
  return {
    ...(tenant === '' ? {} : { tenant }),
    ...(commandId === null ? {} : { commandId }),
    ...(traceparent === null ? {} : { traceparent }),
  }
}

async function call(
  handler: Handler,
  body: JsonObject,
  context: MessageContext,
): Promise<object | undefined> {
  const result = await handler(body, context)
  const value: unknown = isObservable(result)
    ? await lastValueFrom(result, { defaultValue: undefined })
    : result
  if (value === undefined || value === null) return undefined
  if (typeof value !== 'object' || Array.isArray(value))
    throw new Error('a handler must answer with an object')
  return value
}
