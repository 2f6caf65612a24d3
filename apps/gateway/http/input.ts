/** Queries and headers of requests, checked as strictly as bodies: a misspelt parameter is never ignored. */

import type { Request, Response } from 'express'
import { z } from 'zod'
import { parseBody } from '#libs/contract'
import { Rejected } from '#libs/domain'
import { commandIdFrom, type Origin } from '../commands.js'
import { principalOf } from './auth.js'

export const WAIT_MS_MAX = 300_000
export const PAGE_MAX = 1_000

/** A whole number given as text. */
export const wholeNumber = (min: number, max: number) =>
  z
    .string()
    .regex(/^\d{1,16}$/, 'must be a whole number')
    .transform(Number)
    .pipe(z.int().min(min).max(max))

export const flag = z.enum(['0', '1', 'true', 'false']).transform((text) => text === '1' || text === 'true')

/** RFC 3339, or milliseconds since 1970. */
export const moment = z.string().transform((text, context) => {
  const time = /^\d{10,16}$/.test(text) ? new Date(Number(text)) : new Date(text)
  if (/^\d{4}-\d{2}-\d{2}|^\d{10,16}$/.test(text) && !Number.isNaN(time.getTime())) return time
  context.addIssue({ code: 'custom', message: 'must be a time like 2026-01-31T12:00:00Z' })
  return z.NEVER
})

/** A parameter that may be repeated. */
export const repeated = z
  .union([z.string(), z.array(z.string())])
  .transform((value) => (Array.isArray(value) ? value : [value]))

/** @throws Rejected INVALID_ARGUMENT naming the parameter */
export function readQuery<S extends z.ZodRawShape>(request: Request, shape: S): z.output<z.ZodObject<S>> {
  return parseBody(z.strictObject(shape), { ...request.query }) as z.output<z.ZodObject<S>>
}

/** Who sends the command of this request, and under which id. */
export function originOf(request: Request): Origin {
  const { tenant, tokenId } = principalOf(request)
  return {
    tenant,
    actor: `token:${tokenId}`,
    commandId: commandIdFrom(request.header('idempotency-key')),
    traceparent: request.header('traceparent') ?? null,
  }
}

/** Fires when the caller has gone away before it was answered. */
export function goneSignal(response: Response): AbortSignal {
  const controller = new AbortController()
  response.once('close', () => controller.abort())
  return controller.signal
}

/** Bytes are sent as what they are, so that no JSON parser takes them. @throws Rejected INVALID_ARGUMENT */
export function requireBytes(request: Request): void {
  const type = (request.header('content-type') ?? 'application/octet-stream').split(';')[0]
  if (type === 'application/octet-stream' || type === 'application/x-tar') return
  throw new Rejected('INVALID_ARGUMENT', `the body must be application/octet-stream, not ${type}`)
}
