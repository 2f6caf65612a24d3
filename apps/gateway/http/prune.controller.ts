/** /v1/prune: for operators. */

import { Body, Controller, HttpCode, Post, Req } from '@nestjs/common'
import type { Request } from 'express'
import { z } from 'zod'
import { parseBody } from '#libs/contract'
import { Gateway } from '../gateway.js'
import { type PruneReport, prune } from '../prune.js'
import { Operator, principalOf } from './auth.js'

export const pruneBody = z.strictObject({
  /** Only tell what would be removed. */
  dryRun: z.boolean(),
})

@Controller('v1/prune')
export class PruneController {
  constructor(private readonly gateway: Gateway) {}

  @Post()
  @Operator()
  @HttpCode(200)
  async prune(@Req() request: Request, @Body() body: unknown): Promise<PruneReport> {
    const { dryRun } = parseBody(pruneBody, body)
    const report = await prune(this.gateway, dryRun)
    if (!dryRun) this.gateway.log.info({ ...report, by: `token:${principalOf(request).tokenId}` }, 'pruned')
    return report
  }
}
