/** /v1/apps: make, list, look, stop, and the beats of an ephemeral one. */

import { Body, Controller, Get, HttpCode, Param, Post, Req } from '@nestjs/common'
import type { Request } from 'express'
import type { Accepted } from '#libs/contract'
import { type AppView, findAppId, readApp, readAppList } from '../apps.js'
import { sendCommand } from '../commands.js'
import { Gateway } from '../gateway.js'
import { principalOf } from './auth.js'
import { originOf, readQuery } from './input.js'
import { APP_QUERY, APPS_QUERY } from './queries.js'

@Controller('v1/apps')
export class AppsController {
  constructor(private readonly gateway: Gateway) {}

  @Post()
  async create(@Req() request: Request, @Body() body: unknown): Promise<Accepted> {
    return (await sendCommand(this.gateway.messaging, originOf(request), 'app.create', body)).accepted
  }

  @Get()
  async list(@Req() request: Request) {
    const query = readQuery(request, APPS_QUERY)
    return await readAppList(this.gateway, { tenant: principalOf(request).tenant, ...query })
  }

  @Get(':app')
  async get(@Req() request: Request, @Param('app') reference: string): Promise<AppView> {
    const { environment } = readQuery(request, APP_QUERY)
    const { tenant } = principalOf(request)
    const { db } = this.gateway
    return await readApp(db, tenant, await findAppId(db, tenant, reference, environment))
  }

  @Post(':app/stop')
  @HttpCode(202)
  async stop(@Req() request: Request, @Param('app') reference: string): Promise<Accepted> {
    return await this.send(request, reference, 'app.stop')
  }

  @Post(':app/heartbeat')
  @HttpCode(202)
  async heartbeat(@Req() request: Request, @Param('app') reference: string): Promise<Accepted> {
    return await this.send(request, reference, 'app.heartbeat')
  }

  private async send(
    request: Request,
    reference: string,
    command: 'app.stop' | 'app.heartbeat',
  ): Promise<Accepted> {
    const { environment } = readQuery(request, APP_QUERY)
    const { db, messaging } = this.gateway
    const origin = originOf(request)
    const appId = await findAppId(db, origin.tenant, reference, environment)
    return (await sendCommand(messaging, origin, command, { appId })).accepted
  }
}
