/** /v1/volumes: make, list, look at versions, commit and reload from a sandbox, remove. */

import { Body, Controller, Delete, Get, Param, Post, Req, Res } from '@nestjs/common'
import type { Request, Response } from 'express'
import { type Accepted, parseBody } from '#libs/contract'
import { sendCommand } from '../commands.js'
import { Gateway } from '../gateway.js'
import { findSandboxId } from '../lookup.js'
import { readFromService } from '../service-reads.js'
import { commitVolume, readVolume, type VolumeView } from '../volumes.js'
import { principalOf } from './auth.js'
import { goneSignal, originOf } from './input.js'
import { sandboxBody } from './queries.js'

@Controller('v1/volumes')
export class VolumesController {
  constructor(private readonly gateway: Gateway) {}

  @Post()
  async create(@Req() request: Request, @Body() body: unknown): Promise<Accepted> {
    return (await sendCommand(this.gateway.messaging, originOf(request), 'volume.create', body)).accepted
  }

  @Get()
  async list(@Req() request: Request) {
    return await readFromService(this.gateway.messaging, principalOf(request).tenant, 'volume', 'list')
  }

  @Get(':volume')
  async get(@Req() request: Request, @Param('volume') reference: string): Promise<VolumeView> {
    return await readVolume(this.gateway.db, principalOf(request).tenant, reference)
  }

  /** Answers with the version that came of it. */
  @Post(':volume/commit')
  async commit(
    @Req() request: Request,
    @Param('volume') volume: string,
    @Body() body: unknown,
    @Res({ passthrough: true }) response: Response,
  ) {
    const { sandbox } = parseBody(sandboxBody, body)
    const origin = originOf(request)
    const sandboxId = await findSandboxId(this.gateway.db, origin.tenant, sandbox)
    return await commitVolume(this.gateway, origin, { sandboxId, volume }, goneSignal(response))
  }

  @Post(':volume/reload')
  async reload(
    @Req() request: Request,
    @Param('volume') volume: string,
    @Body() body: unknown,
  ): Promise<Accepted> {
    const { sandbox } = parseBody(sandboxBody, body)
    const origin = originOf(request)
    const sandboxId = await findSandboxId(this.gateway.db, origin.tenant, sandbox)
    const command = { sandboxId, volume }
    return (await sendCommand(this.gateway.messaging, origin, 'volume.reload', command)).accepted
  }

  @Delete(':volume')
  async remove(@Req() request: Request, @Param('volume') volume: string): Promise<Accepted> {
    return (await sendCommand(this.gateway.messaging, originOf(request), 'volume.remove', { volume }))
      .accepted
  }
}
