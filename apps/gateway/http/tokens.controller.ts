/** /v1/tokens: the tenant's own API tokens. A secret is shown once, in the answer to its making. */

import { Body, Controller, Delete, Get, Param, Post, Req } from '@nestjs/common'
import type { Request } from 'express'
import { parseBody } from '#libs/contract'
import { Rejected } from '#libs/domain'
import { createToken, listTokens, revokeToken } from '#libs/event-store'
import { Gateway } from '../gateway.js'
import { formatToken } from '../token.js'
import { principalOf, requireOperator } from './auth.js'
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
    const { tenant, tokenId } = principalOf(request)
    const made = await createToken(this.gateway.db, { tenant, name, operator })
    this.gateway.log.info({ tenant, by: tokenId, tokenId: made.id, operator }, 'token created')
    return { id: made.id, name, operator, token: formatToken(made) }
  }

  @Get('tokens')
  async list(@Req() request: Request) {
    return { tokens: await listTokens(this.gateway.db, principalOf(request).tenant) }
  }

  @Delete('tokens/:token')
  async revoke(@Req() request: Request, @Param('token') id: string) {
    const { tenant, tokenId } = principalOf(request)
    if (!(await revokeToken(this.gateway.db, tenant, id))) {
      throw new Rejected('NOT_FOUND', 'no token in use has this id', { hint: 'see `sandtrail token ls`' })
    }
    this.gateway.log.info({ tenant, by: tokenId, tokenId: id }, 'token revoked')
    return { ok: true }
  }
}
