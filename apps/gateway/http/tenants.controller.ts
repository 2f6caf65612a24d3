/** /v1/tenants, for operators. /v1/tenant: what the caller's own may and has. */

import { Body, Controller, Delete, Get, HttpCode, Param, Patch, Post, Req } from '@nestjs/common'
import type { Request } from 'express'
import { type CommandBody, parseBody, tenantLimits } from '#libs/contract'
import { isReservedTenant, PLATFORM_TENANT, Rejected, TENANT } from '#libs/domain'
import { listTokens } from '#libs/event-store'
import { issueToken, withdrawToken } from '../administration.js'
import { sendCommand } from '../commands.js'
import { Gateway } from '../gateway.js'
import { readTenant, readTenants, type TenantView, tenantEvents, viewOfUnlimited } from '../tenants.js'
import { formatToken } from '../token.js'
import { eventView } from '../views/event.js'
import { Operator, principalOf } from './auth.js'
import { originOf } from './input.js'
import { removeBody, suspendBody, tenantBody, tokenBody } from './queries.js'

type Verb = 'create' | 'limit' | 'suspend' | 'resume' | 'remove'

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
    if (!TENANT.test(tenant) || isReservedTenant(tenant)) throw badName(tenant)
    return await this.decide(request, 'create', { tenant, limits })
  }

  @Get('tenants/:tenant')
  @Operator()
  async get(@Param('tenant') tenant: string): Promise<TenantView> {
    return await readTenant(this.gateway.db, tenant)
  }

  @Get('tenants/:tenant/history')
  @Operator()
  async history(@Param('tenant') tenant: string) {
    const events = await tenantEvents(this.gateway.db, tenant)
    return { stream: `tenant:${tenant}`, events: events.map(eventView) }
  }

  @Patch('tenants/:tenant')
  @Operator()
  async limit(
    @Req() request: Request,
    @Param('tenant') reference: string,
    @Body() body: unknown,
  ): Promise<TenantView> {
    const limits = parseBody(tenantLimits, body)
    const { tenant } = await readTenant(this.gateway.db, reference)
    return await this.decide(request, 'limit', { tenant, limits })
  }

  @Post('tenants/:tenant/suspend')
  @Operator()
  @HttpCode(200)
  async suspend(
    @Req() request: Request,
    @Param('tenant') reference: string,
    @Body() body: unknown,
  ): Promise<TenantView> {
    const how = parseBody(suspendBody, body ?? {})
    const { tenant } = await this.notOwn(request, reference)
    return await this.decide(request, 'suspend', { tenant, ...how })
  }

  @Post('tenants/:tenant/resume')
  @Operator()
  @HttpCode(200)
  async resume(@Req() request: Request, @Param('tenant') reference: string): Promise<TenantView> {
    const { tenant } = await readTenant(this.gateway.db, reference)
    return await this.decide(request, 'resume', { tenant })
  }

  @Post('tenants/:tenant/remove')
  @Operator()
  @HttpCode(200)
  async remove(
    @Req() request: Request,
    @Param('tenant') reference: string,
    @Body() body: unknown,
  ): Promise<TenantView> {
    const how = parseBody(removeBody, body ?? {})
    const { tenant } = await this.notOwn(request, reference)
    return await this.decide(request, 'remove', { tenant, ...how })
  }

  /** For a tenant that has none yet, or has lost all of its own. */
  @Post('tenants/:tenant/tokens')
  @Operator()
  async token(@Req() request: Request, @Param('tenant') reference: string, @Body() body: unknown) {
    const { name } = parseBody(tokenBody.omit({ operator: true }), body)
    const { tenant } = await readTenant(this.gateway.db, reference)
    const made = await issueToken(this.gateway, originOf(request), { tenant, name, operator: false })
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
  async revoke(@Req() request: Request, @Param('tenant') reference: string, @Param('token') tokenId: string) {
    const { tenant } = await readTenant(this.gateway.db, reference)
    const hint = 'see `sandtrail tenant tokens NAME`'
    await withdrawToken(this.gateway, originOf(request), { tenant, tokenId, hint })
    return { ok: true }
  }

  private async decide<V extends Verb>(
    request: Request,
    verb: V,
    body: Partial<CommandBody<`tenant.${V}`>> & { tenant: string },
  ): Promise<TenantView> {
    const origin = { ...originOf(request), tenant: PLATFORM_TENANT }
    await sendCommand(this.gateway.messaging, origin, `tenant.${verb}`, body)
    return await readTenant(this.gateway.db, body.tenant)
  }

  /** An operator who suspends the tenant of his own token could not take that back. */
  private async notOwn(request: Request, reference: string): Promise<TenantView> {
    if (principalOf(request).tenant === reference) {
      throw new Rejected('INVALID_ARGUMENT', `this token belongs to the tenant ${reference} itself`, {
        hint: "use an operator's token of another tenant",
      })
    }
    return await readTenant(this.gateway.db, reference)
  }
}

function badName(tenant: string): Rejected {
  return new Rejected(
    'INVALID_ARGUMENT',
    `tenant: ${JSON.stringify(tenant.slice(0, 40))} cannot be a tenant's name`,
    { hint: 'use 1 to 31 lower-case letters, digits and "-"; "platform" is reserved' },
  )
}
