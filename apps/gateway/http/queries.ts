/** What may stand in the queries of requests, and the small bodies that are no commands: checks and OpenAPI in one. */

import { z } from 'zod'
import {
  appId,
  imageImport,
  sandboxCursor,
  sandboxExec,
  tenantLimits,
  tenantRemove,
  tenantSuspend,
} from '#libs/contract'
import { flag, moment, PAGE_MAX, repeated, WAIT_MS_MAX, wholeNumber } from './input.js'

export const LIST_QUERY = {
  state: repeated.pipe(z.array(z.enum(['starting', 'running', 'stopping', 'ended']))).optional(),
  tag: repeated.pipe(z.array(z.string().regex(/^[^=]+=/, 'must be like KEY=VALUE'))).optional(),
  name: z.string().optional(),
  app: appId.optional(),
  limit: wholeNumber(1, PAGE_MAX).default(100),
  cursor: sandboxCursor.optional(),
}

/** Of the environment in which a name is looked for. */
export const APP_QUERY = { environment: z.string().max(64).default('main') }

export const APPS_QUERY = {
  state: z.enum(['running', 'stopped']).optional(),
  environment: z.string().optional(),
  name: z.string().optional(),
  limit: wholeNumber(1, PAGE_MAX).default(100),
  cursor: appId.optional(),
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

/** `shared`: the image is the platform's, for all tenants; operators only. */
export const SHARED_QUERY = { shared: flag.default(false) }

export const IMPORT_QUERY = { name: imageImport.shape.name.optional(), ...SHARED_QUERY }

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
  /** May administer tenants and shared images; operators only. */
  operator: z.boolean().default(false),
})

export const tenantBody = tenantLimits.extend({ tenant: z.string().min(1).max(64) })
export const suspendBody = tenantSuspend.omit({ tenant: true })
export const removeBody = tenantRemove.omit({ tenant: true })

export const REFUSALS_QUERY = {
  /** Everybody's, those of unknown callers too; operators only. */
  all: flag.default(false),
  since: moment.optional(),
  limit: wholeNumber(1, PAGE_MAX).default(100),
}

export const resizeBody = sandboxExec.shape.pty.unwrap().unwrap()

export const sandboxBody = z.strictObject({
  /** Id, unique prefix or live name. */
  sandbox: z.string().min(1).max(64),
})
