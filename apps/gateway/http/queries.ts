/** What may stand in the queries of requests, and the small bodies that are no commands: checks and OpenAPI in one. */

import { z } from 'zod'
import { imageImport } from '#libs/contract'
import { flag, moment, PAGE_MAX, repeated, WAIT_MS_MAX, wholeNumber } from './input.js'

export const LIST_QUERY = {
  state: repeated.pipe(z.array(z.enum(['starting', 'running', 'stopping', 'ended']))).optional(),
  tag: repeated.pipe(z.array(z.string().regex(/^[^=]+=/, 'must be like KEY=VALUE'))).optional(),
  name: z.string().optional(),
  limit: wholeNumber(1, PAGE_MAX).default(100),
  cursor: z.string().optional(),
}

export const OUTPUT_QUERY = {
  offset: wholeNumber(0, Number.MAX_SAFE_INTEGER).default(0),
  follow: flag.default(false),
  limit: wholeNumber(1, Number.MAX_SAFE_INTEGER).optional(),
}

export const LOGS_QUERY = { stream: z.enum(['stdout', 'stderr']).default('stdout'), ...OUTPUT_QUERY }

export const WAIT_QUERY = { timeoutMs: wholeNumber(0, WAIT_MS_MAX).default(60_000) }

export const AT_QUERY = { at: moment.optional() }

export const STDIN_QUERY = {
  offset: wholeNumber(0, Number.MAX_SAFE_INTEGER).default(0),
  eof: flag.default(false),
}

export const IMPORT_QUERY = { name: imageImport.shape.name.optional() }

export const EVENTS_QUERY = {
  type: repeated.optional(),
  since: moment.optional(),
  after: wholeNumber(0, Number.MAX_SAFE_INTEGER).optional(),
  limit: wholeNumber(1, PAGE_MAX).default(100),
}

export const FLEET_QUERY = { at: moment.optional() }

export const DEAD_LETTERS_QUERY = {
  after: wholeNumber(0, Number.MAX_SAFE_INTEGER).default(0),
  limit: wholeNumber(1, 100).default(100),
}

export const VERIFY_QUERY = { stream: z.string().max(200).optional() }

export const tokenBody = z.strictObject({
  /** Who or what will use it. */
  name: z
    .string()
    .min(1)
    .max(64)
    .regex(/^[^\p{Cc}]+$/u, 'must have no control characters'),
})

export const sandboxBody = z.strictObject({
  /** Id, unique prefix or live name. */
  sandbox: z.string().min(1).max(64),
})
