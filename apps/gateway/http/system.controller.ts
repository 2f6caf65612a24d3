/** Probes, health of what the gateway stands on, verify, and the API's own description. */

import { Controller, Get, Req, Res } from '@nestjs/common'
import type { Request, Response } from 'express'
import { Rejected } from '#libs/domain'
import { Gateway } from '../gateway.js'
import { checkHealth, isReady } from '../health.js'
import { findStream, streamEvents } from '../lookup.js'
import { verify, verifyStream } from '../verify.js'
import { denied, Public, principalOf } from './auth.js'
import { readQuery } from './input.js'
import { openApi } from './openapi.js'
import { VERIFY_QUERY } from './queries.js'

@Controller()
export class SystemController {
  constructor(private readonly gateway: Gateway) {}

  /** The process answers. */
  @Get('livez')
  @Public()
  live() {
    return { ok: true }
  }

  /** Database and broker can be reached. */
  @Get('readyz')
  @Public()
  async ready(@Res({ passthrough: true }) response: Response) {
    const ok = await isReady(this.gateway)
    response.status(ok ? 200 : 503)
    return { ok }
  }

  /** Each part of the system, whether it answers and what to do when it does not. */
  @Get('v1/health')
  async health(@Req() request: Request) {
    return await checkHealth(this.gateway, principalOf(request))
  }

  @Get('v1/verify')
  async verify(@Req() request: Request) {
    const { stream: reference } = readQuery(request, VERIFY_QUERY)
    if (this.gateway.trail === null) {
      throw new Rejected('UNIMPLEMENTED', 'this gateway has no copy of the trail to verify against', {
        hint: 'verify offline: `sandtrail verify --database-url URL --trail-file FILE --public-key FILE`',
      })
    }
    const { db } = this.gateway
    const stream = reference && (await findStream(db, principalOf(request).tenant, reference))
    await this.mayVerify(request, stream)
    if (stream === undefined) return await verify(this.gateway.trail)
    return await verifyStream(this.gateway.trail, principalOf(request).tenant, stream)
  }

  /** The whole trail tells of every tenant's streams. A stream of another looks like one that does not exist. */
  private async mayVerify(request: Request, stream: string | undefined): Promise<void> {
    const { tenant, operator } = principalOf(request)
    if (operator) return
    if (stream === undefined) {
      throw denied(this.gateway.gate, request, "the whole trail is the operators' to verify", {
        hint: 'name a stream of yours: `sandtrail verify STREAM`',
      })
    }
    await streamEvents(this.gateway.db, [tenant], stream)
  }

  @Get('openapi.json')
  @Public()
  description() {
    return openApi()
  }
}
