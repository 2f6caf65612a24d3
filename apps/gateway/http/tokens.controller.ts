/** /v1/tokens: the tenant's own API tokens. A secret is shown once, in the answer to its making. */

import { Body, Controller, Delete, Get, Param, Post, Req } from '@nestjs/common'
import type { Request } from 'express'
import { parseBody } from '#libs/contract'
import { listTokens } from '#libs/event-store'
import { issueToken, withdrawToken } from '../administration.js'
import { Gateway } from '../gateway.js'
import { formatToken } from '../token.js'
import { principalOf, requireOperator } from './auth.js'
import { originOf } from './input.js'
import { tokenBody } from './queries.js'

@Controller('v1')
export class TokensController {
  constructor(private readonly gateway: Gateway) {}

  @Get('whoami')
  whoami(@Req() request: Request) {
    return principalOf(request)
  }

  @Post('tokens')
  async create(@Req() request: Request, @Body() body: unknown) {
    const { name, operator } = parseBody(tokenBody, body)
    if (operator) requireOperator(this.gateway.gate, request)
    const { tenant } = principalOf(request)
    const made = await issueToken(this.gateway, originOf(request), { tenant, name, operator })
    return { id: made.id, name, operator, token: formatToken(made) }
  }

  @Get('tokens')
  async list(@Req() request: Request) {
    return { tokens: await listTokens(this.gateway.db, principalOf(request).tenant) }
  }

  @Delete('tokens/:token')
  async revoke(@Req() request: Request, @Param('token') tokenId: string) {
    const { tenant } = principalOf(request)
    const hint = 'see `sandtrail token ls`'
    await withdrawToken(this.gateway, originOf(request), { tenant, tokenId, hint })
    return { ok: true }
  }
}
