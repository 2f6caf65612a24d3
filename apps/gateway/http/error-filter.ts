/** Every error leaves as `{error: {code, message, hint, retryable}}` with the status of its code. */

import { type ArgumentsHost, Catch, type ExceptionFilter, HttpException } from '@nestjs/common'
import type { Response } from 'express'
import { CODES, type ErrorBody, type ErrorCode, Rejected, SandtrailError, toErrorBody } from '#libs/domain'
import type { Log } from '#libs/service'
import { OutputDropped } from '../data-plane/output-dropped.js'

@Catch()
export class ErrorFilter implements ExceptionFilter {
  constructor(private readonly log: Log) {}

  catch(error: unknown, host: ArgumentsHost): void {
    const response = host.switchToHttp().getResponse<Response>()
    const known = isOurs(error) ? error : fromFramework(error)
    if (known === error ? error instanceof SandtrailError : !isClientFault(error)) {
      this.log.warn({ err: error }, 'request failed')
    }
    const more = known instanceof OutputDropped ? { firstOffset: known.firstOffset } : {}
    sendError(response, toErrorBody(known), more)
  }
}

/** Nobody knows when a worker has room again: a sandbox has to end. */
const RETRY_MS = 1_000

/** Answers with an error; when the answer has begun already the connection is cut, so that nobody takes it for whole. */
function sendError(response: Response, body: ErrorBody, more: { firstOffset?: number }): void {
  if (response.headersSent) {
    response.destroy()
    return
  }
  if (body.code === 'UNAUTHENTICATED') response.setHeader('WWW-Authenticate', 'Bearer')
  if (CODES[body.code].http === 429) {
    response.setHeader('Retry-After', String(Math.ceil((body.retryAfterMs ?? RETRY_MS) / 1000)))
  }
  response.status(CODES[body.code].http).json({ error: body, ...more })
}

function isOurs(error: unknown): boolean {
  return error instanceof Rejected || error instanceof SandtrailError
}

const CODE_OF_STATUS: Record<number, ErrorCode> = {
  400: 'INVALID_ARGUMENT',
  404: 'NOT_FOUND',
  413: 'PAYLOAD_TOO_LARGE',
  415: 'INVALID_ARGUMENT',
}

/** Nest's own refusals (no such route, a body that is not JSON) and those of its body parser. */
function fromFramework(error: unknown): unknown {
  const status = statusOf(error)
  const code = status === null ? undefined : CODE_OF_STATUS[status]
  if (code === undefined) return error
  switch (code) {
    case 'NOT_FOUND':
      return new Rejected(code, 'no such route', { hint: 'see /openapi.json' })
    case 'PAYLOAD_TOO_LARGE':
      return new Rejected(code, 'the body is larger than 1 MiB')
    default:
      return new Rejected(code, 'the body or the path is malformed', {
        hint: 'the body must be JSON in UTF-8',
      })
  }
}

function isClientFault(error: unknown): boolean {
  const status = statusOf(error)
  return status !== null && status < 500
}

function statusOf(error: unknown): number | null {
  if (error instanceof HttpException) return error.getStatus()
  if (typeof error !== 'object' || error === null || !('status' in error)) return null
  return typeof error.status === 'number' ? error.status : null
}
