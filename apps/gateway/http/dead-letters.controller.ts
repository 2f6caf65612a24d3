/** /v1/dead-letters: queued commands that nobody could handle, of all tenants; for operators. */

import { Controller, Delete, Get, HttpCode, Param, Post, Req } from '@nestjs/common'
import type { Request } from 'express'
import { Rejected } from '#libs/domain'
import {
  type DeadLetter,
  listDeadLetters,
  readDeadLetter,
  redriveDeadLetter,
  removeDeadLetter,
} from '#libs/messaging'
import { Gateway } from '../gateway.js'
import { Operator, principalOf } from './auth.js'
import { readQuery } from './input.js'
import { DEAD_LETTERS_QUERY } from './queries.js'

@Controller('v1/dead-letters')
export class DeadLettersController {
  constructor(private readonly gateway: Gateway) {}

  @Get()
  @Operator()
  async list(@Req() request: Request): Promise<{ deadLetters: DeadLetter[]; next: number | null }> {
    const { after, limit } = readQuery(request, DEAD_LETTERS_QUERY)
    const deadLetters = await listDeadLetters(this.gateway.messaging, { after, limit })
    return { deadLetters, next: deadLetters.length === limit ? deadLetters.at(-1)!.seq : null }
  }

  /** With its body; values of env and stdin are left out. */
  @Get(':seq')
  @Operator()
  async get(@Param('seq') seq: string) {
    return await readDeadLetter(this.gateway.messaging, seqOf(seq))
  }

  @Post(':seq/redrive')
  @Operator()
  @HttpCode(202)
  async redrive(@Req() request: Request, @Param('seq') seq: string): Promise<{ ok: true; subject: string }> {
    const { subject, commandId, tenant } = await redriveDeadLetter(this.gateway.messaging, seqOf(seq))
    this.audit(request, { seq: seqOf(seq), subject, commandId, tenant }, 'dead letter sent again')
    return { ok: true, subject }
  }

  @Delete(':seq')
  @Operator()
  async remove(@Req() request: Request, @Param('seq') seq: string): Promise<{ ok: true }> {
    const { subject, commandId, tenant } = await removeDeadLetter(this.gateway.messaging, seqOf(seq))
    this.audit(request, { seq: seqOf(seq), subject, commandId, tenant }, 'dead letter removed')
    return { ok: true }
  }

  private audit(request: Request, fields: object, message: string): void {
    this.gateway.log.info({ ...fields, by: `token:${principalOf(request).tokenId}` }, message)
  }
}

function seqOf(text: string): number {
  if (/^[1-9]\d{0,15}$/.test(text)) return Number(text)
  throw new Rejected('INVALID_ARGUMENT', 'a dead letter is named by its number', {
    hint: 'see `sandtrail dead-letter ls`',
  })
}
