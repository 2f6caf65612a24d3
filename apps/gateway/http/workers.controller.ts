/** /v1/workers: for operators. What is wanted of a worker is an event of the platform, with who wanted it. */

import { Body, Controller, Get, HttpCode, Param, Post, Req } from '@nestjs/common'
import type { Request } from 'express'
import { type Accepted, parseBody, workerCordon, workerDrain } from '#libs/contract'
import { PLATFORM_TENANT } from '#libs/domain'
import { sendCommand } from '../commands.js'
import { Gateway } from '../gateway.js'
import { eventView } from '../views/event.js'
import { readWorker, readWorkers, type WorkerView, workerEvents } from '../workers.js'
import { Operator } from './auth.js'
import { originOf } from './input.js'

export const cordonBody = workerCordon.omit({ workerId: true })
export const drainBody = workerDrain.omit({ workerId: true })

@Controller('v1/workers')
export class WorkersController {
  constructor(private readonly gateway: Gateway) {}

  @Get()
  @Operator()
  async list(): Promise<{ workers: WorkerView[] }> {
    return { workers: await readWorkers(this.gateway.db) }
  }

  @Get(':worker')
  @Operator()
  async get(@Param('worker') workerId: string): Promise<WorkerView> {
    return await readWorker(this.gateway.db, workerId)
  }

  @Get(':worker/history')
  @Operator()
  async history(@Param('worker') workerId: string) {
    const events = await workerEvents(this.gateway.db, workerId)
    return { stream: workerId, events: events.map(eventView) }
  }

  @Post(':worker/cordon')
  @Operator()
  @HttpCode(202)
  async cordon(@Req() request: Request, @Param('worker') workerId: string, @Body() body: unknown) {
    return await this.send(request, 'worker.cordon', { workerId, ...parseBody(cordonBody, body ?? {}) })
  }

  @Post(':worker/uncordon')
  @Operator()
  @HttpCode(202)
  async uncordon(@Req() request: Request, @Param('worker') workerId: string) {
    return await this.send(request, 'worker.uncordon', { workerId })
  }

  @Post(':worker/drain')
  @Operator()
  @HttpCode(202)
  async drain(@Req() request: Request, @Param('worker') workerId: string, @Body() body: unknown) {
    return await this.send(request, 'worker.drain', { workerId, ...parseBody(drainBody, body ?? {}) })
  }

  private async send(
    request: Request,
    name: 'worker.cordon' | 'worker.uncordon' | 'worker.drain',
    body: object,
  ): Promise<Accepted> {
    const origin = { ...originOf(request), tenant: PLATFORM_TENANT }
    return (await sendCommand(this.gateway.messaging, origin, name, body)).accepted
  }
}
