/** What holds for every request, before its route is looked for: as strict as for a message on NATS. */

import type { NextFunction, Request, Response } from 'express'
import { Rejected } from '#libs/domain'
import { decodeBody } from '#libs/messaging'

/** Neither a path nor a query has a NUL: Postgres holds none, so nothing can be called like that. */
export function refuseNul(request: Request, _response: Response, next: NextFunction): void {
  if (request.url.includes('%00')) {
    throw new Rejected('INVALID_ARGUMENT', 'the path or the query has a NUL character')
  }
  next()
}

const BYTES = ['application/octet-stream', 'application/x-tar']

/**
 * JSON that came as bytes: valid UTF-8, an object, not too deep, no `__proto__`. Bytes are left for their routes.
 *
 * @throws Rejected INVALID_ARGUMENT for a body of another type: nobody would read it
 */
export function parseJson(request: Request, _response: Response, next: NextFunction): void {
  if (Buffer.isBuffer(request.body)) request.body = decodeBody(request.body)
  else if (hasBody(request)) refuseOtherTypes(request)
  next()
}

function hasBody({ headers }: Request): boolean {
  return headers['transfer-encoding'] !== undefined || Number(headers['content-length'] ?? 0) > 0
}

function refuseOtherTypes(request: Request): void {
  const type = request.header('content-type')
  // Without one it may be bytes; a route that wants JSON says that it has no body.
  if (type === undefined || BYTES.some((one) => request.is(one))) return
  throw new Rejected(
    'INVALID_ARGUMENT',
    `no route reads a body of type ${JSON.stringify(type.slice(0, 80))}`,
    {
      hint: "send 'Content-Type: application/json' with JSON, 'application/octet-stream' with bytes",
    },
  )
}
