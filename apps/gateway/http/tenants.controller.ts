/** /v1/tenants, for operators: make, list, look at, limit. /v1/tenant: what the caller's own may and has. */

import { Body, Controller, Delete, Get, Param, Patch, Post, Req } from '@nestjs/common'
import type { Request } from 'express'
import { parseBody } from '#libs/contract'
import { Rejected } from '#libs/domain'
import { createToken, listTokens, revokeToken } from '#libs/event-store'
import { Gateway } from '../gateway.js'
import {
  createTenant,
  readTenant,
  readTenants,
  setLimits,
  type TenantView,
  viewOfUnlimited,
} from '../tenants.js'
import { formatToken } from '../token.js'
import { Operator, principalOf } from './auth.js'
import { tenantBody, tenantLimits, tokenBody } from './queries.js'

@Controller('v1')
export class TenantsController {
  constructor(private readonly gateway: Gateway) {}

  @Get('tenant')
  async own(@Req() request: Request): Promise<TenantView> {
    const { tenant } = principalOf(request)
    return await viewOfUnlimited(this.gateway.db, tenant)
  }

  @Get('tenants')
  @Operator()
  async list(): Promise<{ tenants: TenantView[] }> {
    return { tenants: await readTenants(this.gateway.db) }
  }

  @Post('tenants')
  @Operator()
  async create(@Req() request: Request, @Body() body: unknown): Promise<TenantView> {
    const { tenant, ...limits } = parseBody(tenantBody, body)
    const view = await createTenant(this.gateway.db, tenant, limits)
    this.log(request, tenant, 'tenant created')
    return view
  }

  @Get('tenants/:tenant')
  @Operator()
  async get(@Param('tenant') tenant: string): Promise<TenantView> {
    return await readTenant(this.gateway.db, tenant)
  }

  @Patch('tenants/:tenant')
  @Operator()
  async limit(
    @Req() request: Request,
    @Param('tenant') tenant: string,
    @Body() body: unknown,
  ): Promise<TenantView> {
    const view = await setLimits(this.gateway.db, tenant, parseBody(tenantLimits, body))
    this.log(request, tenant, 'tenant limited')
    return view
  }

  /** For a tenant that has none yet, or has lost all of its own. */
  @Post('tenants/:tenant/tokens')
  @Operator()
  async token(@Req() request: Request, @Param('tenant') reference: string, @Body() body: unknown) {
    const { name } = parseBody(tokenBody.omit({ operator: true }), body)
    const { tenant } = await readTenant(this.gateway.db, reference)
    const made = await createToken(this.gateway.db, { tenant, name })
    this.log(request, tenant, 'token created', { tokenId: made.id })
    return { id: made.id, name, operator: false, token: formatToken(made) }
  }

  @Get('tenants/:tenant/tokens')
  @Operator()
  async tokens(@Param('tenant') reference: string) {
    const { tenant } = await readTenant(this.gateway.db, reference)
    return { tokens: await listTokens(this.gateway.db, tenant) }
  }

  /** At once, as the tenant itself could. */
  @Delete('tenants/:tenant/tokens/:token')
  @Operator()
  async revoke(@Req() request: Request, @Param('tenant') reference: string, @Param('token') id: string) {
    const { tenant } = await readTenant(this.gateway.db, reference)
    if (!(await revokeToken(this.gateway.db, tenant, id))) {
      throw new Rejected('NOT_FOUND', 'no token in use of this tenant has this id', {
        hint: 'see `sandtrail tenant tokens NAME`',
      })
    }
    this.log(request, tenant, 'token revoked', { tokenId: id })
    return { ok: true }
  }

  private log(request: Request, tenant: string, message: string, more: object = {}): void {
    this.gateway.log.info({ tenant, by: principalOf(request).tokenId, ...more }, message)
  }
}
