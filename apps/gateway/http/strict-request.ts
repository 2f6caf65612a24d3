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

/** JSON that came as bytes: valid UTF-8, an object, not too deep, no `__proto__`. */
export function parseJson(request: Request, _response: Response, next: NextFunction): void {
  if (Buffer.isBuffer(request.body)) request.body = decodeBody(request.body)
  next()
}
