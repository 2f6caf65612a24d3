/** /v1/execs: the state of an exec, its end, its streams. */

import { Body, Controller, Get, HttpCode, Param, Post, Put, Req, Res } from '@nestjs/common'
import type { Request, Response } from 'express'
import { type Accepted, parseBody, sandboxSignal } from '#libs/contract'
import { EXEC_TERMINAL_EVENTS, Rejected } from '#libs/domain'
import { sendCommand } from '../commands.js'
import { Gateway } from '../gateway.js'
import { execEvents, findExecId, readExec } from '../lookup.js'
import { outputOfExec, resizeExec, writeStdin } from '../output.js'
import { eventView } from '../views/event.js'
import type { ExecView } from '../views/exec.js'
import { principalOf } from './auth.js'
import { goneSignal, originOf, readQuery, requireBytes } from './input.js'
import { OUTPUT_QUERY, resizeBody, STDIN_QUERY, WAIT_QUERY } from './queries.js'
import { sendOutput } from './send-output.js'

const signalBody = sandboxSignal.omit({ execId: true })

@Controller('v1/execs')
export class ExecsController {
  constructor(private readonly gateway: Gateway) {}

  @Get(':exec')
  async get(@Req() request: Request, @Param('exec') reference: string): Promise<ExecView> {
    return await readExec(this.gateway.db, principalOf(request).tenant, reference)
  }

  @Get(':exec/history')
  async history(@Req() request: Request, @Param('exec') reference: string) {
    const events = await execEvents(this.gateway.db, principalOf(request).tenant, reference)
    return { execId: events[0]!.stream, events: events.map(eventView) }
  }

  /** Answers with the end, or with the state as it is when the time is up. */
  @Get(':exec/wait')
  async wait(
    @Req() request: Request,
    @Param('exec') reference: string,
    @Res({ passthrough: true }) response: Response,
  ): Promise<ExecView> {
    const { timeoutMs } = readQuery(request, WAIT_QUERY)
    const { db, waiter } = this.gateway
    const { tenant } = principalOf(request)
    const { execId } = await readExec(db, tenant, reference)
    await waiter.until(execId, EXEC_TERMINAL_EVENTS, { timeoutMs, signal: goneSignal(response) })
    return await readExec(db, tenant, execId)
  }

  @Post(':exec/signal')
  @HttpCode(202)
  async signal(
    @Req() request: Request,
    @Param('exec') reference: string,
    @Body() body: unknown,
  ): Promise<Accepted> {
    const { signal } = parseBody(signalBody, body)
    const origin = originOf(request)
    const execId = await findExecId(this.gateway.db, origin.tenant, reference)
    return (await sendCommand(this.gateway.messaging, origin, 'sandbox.signal', { execId, signal })).accepted
  }

  @Get(':exec/output/:stream')
  async output(
    @Req() request: Request,
    @Param('exec') reference: string,
    @Param('stream') stream: string,
    @Res() response: Response,
  ): Promise<void> {
    if (stream !== 'stdout' && stream !== 'stderr') {
      throw new Rejected('NOT_FOUND', 'an exec has two output streams: stdout and stderr')
    }
    const range = readQuery(request, OUTPUT_QUERY)
    const { tenant } = principalOf(request)
    const { execId } = await readExec(this.gateway.db, tenant, reference)
    const signal = goneSignal(response)
    await sendOutput(response, await outputOfExec(this.gateway, tenant, execId, { stream, ...range, signal }))
  }

  /** Bytes already taken are skipped, so a chunk may be sent again; answers how far the process' stdin has got. */
  @Put(':exec/stdin')
  async stdin(
    @Req() request: Request,
    @Param('exec') reference: string,
    @Res({ passthrough: true }) response: Response,
  ): Promise<{ acceptedTo: number }> {
    requireBytes(request)
    const range = readQuery(request, STDIN_QUERY)
    const exec = await readExec(this.gateway.db, principalOf(request).tenant, reference)
    const signal = goneSignal(response)
    return await writeStdin(this.gateway, exec, { ...range, body: request, signal })
  }

  @Post(':exec/resize')
  @HttpCode(200)
  async resize(@Req() request: Request, @Param('exec') reference: string, @Body() body: unknown) {
    const size = parseBody(resizeBody, body)
    const exec = await readExec(this.gateway.db, principalOf(request).tenant, reference)
    await resizeExec(this.gateway, exec, size)
    return { ok: true }
  }
}
