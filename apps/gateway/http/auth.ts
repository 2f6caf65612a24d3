/** Who calls: every route but /livez, /readyz, /openapi.json and signed blob URLs needs a bearer token. */

import { type CanActivate, type ExecutionContext, SetMetadata } from '@nestjs/common'
import type { Request } from 'express'
import { Rejected } from '#libs/domain'
import { type Database, findToken } from '#libs/event-store'
import { parseToken } from '../token.js'

export interface Principal {
  tenant: string
  tokenId: string
  /** May administer workers. */
  operator: boolean
}

const PUBLIC = 'sandtrail:public'
/** Marks a handler that answers without a token. */
export const Public = () => SetMetadata(PUBLIC, true)

const OPERATOR = 'sandtrail:operator'
/** Marks a handler that answers an operator's token only. */
export const Operator = () => SetMetadata(OPERATOR, true)

const principals = new WeakMap<Request, Principal>()

export class AuthGuard implements CanActivate {
  constructor(private readonly db: Database) {}

  /** @throws Rejected UNAUTHENTICATED, PERMISSION_DENIED */
  async canActivate(context: ExecutionContext): Promise<boolean> {
    if (Reflect.getMetadata(PUBLIC, context.getHandler()) === true) return true
    const request = context.switchToHttp().getRequest<Request>()
    const [scheme, text] = (request.headers.authorization ?? '').split(' ')
    if (scheme?.toLowerCase() !== 'bearer' || !text) throw unauthenticated('a token is missing')
    const bearer = parseToken(text)
    const token = bearer === null ? null : await findToken(this.db, bearer.secret, bearer.id)
    if (token === null) throw unauthenticated('the token is not valid, or was revoked')
    const { tenant, id: tokenId, operator } = token
    principals.set(request, { tenant, tokenId, operator })
    if (Reflect.getMetadata(OPERATOR, context.getHandler()) === true && !operator) {
      throw new Rejected('PERMISSION_DENIED', 'only an operator may do this', {
        hint: 'use the token that set-up made, or have an operator make one',
      })
    }
    return true
  }
}

/** The caller of a request that passed the guard. */
export function principalOf(request: Request): Principal {
  const principal = principals.get(request)
  if (principal === undefined) throw new Error('the route is reached without the guard')
  return principal
}

function unauthenticated(message: string): Rejected {
  return new Rejected('UNAUTHENTICATED', message, {
    hint: 'send "Authorization: Bearer TOKEN"; a token comes from `sandtrail token create`',
  })
}
