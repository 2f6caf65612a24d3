/** /v1/refusals: calls that were refused, counted by minute. A tenant sees its own, an operator with `all` everybody's. */

import { Controller, Get, Req } from '@nestjs/common'
import type { Request } from 'express'
import { listRefusals } from '#libs/event-store'
import { Gateway } from '../gateway.js'
import { principalOf, requireOperator } from './auth.js'
import { readQuery } from './input.js'
import { REFUSALS_QUERY } from './queries.js'

@Controller('v1')
export class RefusalsController {
  constructor(private readonly gateway: Gateway) {}

  @Get('refusals')
  async list(@Req() request: Request) {
    const { all, since = null, limit } = readQuery(request, REFUSALS_QUERY)
    if (all) requireOperator(this.gateway.gate, request)
    const tenant = all ? null : principalOf(request).tenant
    return { refusals: await listRefusals(this.gateway.db, { tenant, since, limit }) }
  }
}
