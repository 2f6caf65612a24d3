/**
 * Who calls, and whether it may: every route but /livez, /readyz, /openapi.json and signed blob URLs needs a bearer token,
 * some need an operator's, and each tenant has its rate of requests. What is refused here is counted for the audit.
 */

import { type CanActivate, type ExecutionContext, SetMetadata } from '@nestjs/common'
import type { Request } from 'express'
import { Rejected } from '#libs/domain'
import { findRevokedToken, findToken, type Token } from '#libs/event-store'
import type { TenantGate } from '#libs/tenancy'
import type { Gateway } from '../gateway.js'
import { parseToken } from '../token.js'

export interface Principal {
  tenant: string
  tokenId: string
  /** May administer workers, tenants and shared images. */
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
  constructor(private readonly gateway: Pick<Gateway, 'db' | 'gate'>) {}

  /** @throws Rejected UNAUTHENTICATED, TENANT_SUSPENDED, PERMISSION_DENIED; SandtrailError RESOURCE_EXHAUSTED */
  async canActivate(context: ExecutionContext): Promise<boolean> {
    if (Reflect.getMetadata(PUBLIC, context.getHandler()) === true) return true
    const request = context.switchToHttp().getRequest<Request>()
    const { gate } = this.gateway
    const { id: tokenId, tenant, operator, suspended } = await this.authenticate(request)
    const caller = { tenant, actor: `token:${tokenId}`, action: actionOf(request) }
    if (suspended) throw gate.suspendedNow(caller)
    await gate.admit('requests', caller)
    // Gone while it was looked up: nothing would ever end its hold.
    const { res } = request
    if (res && !res.destroyed)
      res.once(
        'close',
        gate.hold(caller, () => res.destroy()),
      )
    principals.set(request, { tenant, tokenId, operator })
    if (Reflect.getMetadata(OPERATOR, context.getHandler()) === true) requireOperator(gate, request)
    return true
  }

  private async authenticate(request: Request): Promise<Token & { suspended: boolean }> {
    const { db, gate } = this.gateway
    const [scheme, text] = (request.headers.authorization ?? '').split(' ')
    const isBearer = scheme?.toLowerCase() === 'bearer' && Boolean(text)
    const bearer = isBearer ? parseToken(text!) : null
    const token = bearer === null ? null : await findToken(db, bearer.secret, bearer.id)
    if (token !== null) return token
    const revoked = bearer === null ? null : await findRevokedToken(db, bearer.secret)
    gate.refused({
      tenant: revoked?.tenant ?? null,
      actor: revoked === null ? null : `token:${revoked.id}`,
      code: 'UNAUTHENTICATED',
      action: actionOf(request),
      detail: revoked === null ? null : 'revoked',
    })
    throw unauthenticated(isBearer ? 'the token is not valid, or was revoked' : 'a token is missing')
  }
}

/** The caller of a request that passed the guard. */
export function principalOf(request: Request): Principal {
  const principal = principals.get(request)
  if (principal === undefined) throw new Error('the route is reached without the guard')
  return principal
}

/** @throws Rejected PERMISSION_DENIED, counted for the audit */
export function requireOperator(gate: TenantGate, request: Request): void {
  if (principalOf(request).operator) return
  throw denied(gate, request, 'only an operator may do this', {
    hint: 'use the token that set-up made, or have an operator make one: `sandtrail token create NAME --operator`',
  })
}

/** The refusal to throw; it is counted for the audit. */
export function denied(
  gate: TenantGate,
  request: Request,
  message: string,
  options: { hint?: string } = {},
): Rejected {
  const principal = principals.get(request)
  gate.refused({
    tenant: principal?.tenant ?? null,
    actor: principal === undefined ? null : `token:${principal.tokenId}`,
    code: 'PERMISSION_DENIED',
    action: actionOf(request),
    detail: null,
  })
  return new Rejected('PERMISSION_DENIED', message, options)
}

/** The route's own path, not the caller's. */
function actionOf(request: Request): string {
  return `${request.method} ${(request.route as { path?: string } | undefined)?.path ?? ''}`
}

function unauthenticated(message: string): Rejected {
  return new Rejected('UNAUTHENTICATED', message, {
    hint: 'send "Authorization: Bearer TOKEN"; a token comes from `sandtrail token create`',
  })
}
