/** /v1/sandboxes: create, look, wait, end; the output of the main process, execs and snapshots of one. */

import { Body, Controller, Get, HttpCode, Param, Post, Put, Req, Res } from '@nestjs/common'
import type { Request, Response } from 'express'
import { type Accepted, parseBody, sandboxExec, sandboxName, sandboxTag } from '#libs/contract'
import { SANDBOX_TERMINAL_EVENTS } from '#libs/domain'
import { sendCommand } from '../commands.js'
import { execsOf, runExec } from '../execs.js'
import { Gateway } from '../gateway.js'
import { findSandboxId, readSandbox, sandboxEvents } from '../lookup.js'
import { outputOfMain, resizeMain, writeMainStdin } from '../output.js'
import { readSandboxList } from '../sandbox-list.js'
import { createSnapshot } from '../snapshots.js'
import { sandboxAt } from '../time-travel.js'
import { type EventView, eventView } from '../views/event.js'
import type { ExecView } from '../views/exec.js'
import type { SandboxView } from '../views/sandbox.js'
import { principalOf } from './auth.js'
import { goneSignal, originOf, readQuery, requireBytes } from './input.js'
import { AT_QUERY, LIST_QUERY, LOGS_QUERY, resizeBody, STDIN_QUERY, WAIT_QUERY } from './queries.js'
import { sendOutput } from './send-output.js'

const execBody = sandboxExec.omit({ sandboxId: true })
const tagBody = sandboxTag.omit({ sandboxId: true })
const nameBody = sandboxName.omit({ sandboxId: true })

@Controller('v1/sandboxes')
export class SandboxesController {
  constructor(private readonly gateway: Gateway) {}

  @Post()
  async create(@Req() request: Request, @Body() body: unknown): Promise<Accepted> {
    const { accepted } = await sendCommand(this.gateway.messaging, originOf(request), 'sandbox.create', body)
    return accepted
  }

  @Get()
  async list(@Req() request: Request) {
    const { state, tag, app: appId, ...query } = readQuery(request, LIST_QUERY)
    const tags = Object.fromEntries((tag ?? []).map((text) => splitOnce(text, '=')))
    const { tenant } = principalOf(request)
    return await readSandboxList(this.gateway, { tenant, states: state, tags, appId, ...query })
  }

  @Get(':sandbox')
  async get(@Req() request: Request, @Param('sandbox') reference: string): Promise<SandboxView> {
    const { at } = readQuery(request, AT_QUERY)
    const { tenant } = principalOf(request)
    if (at === undefined) return await readSandbox(this.gateway.db, tenant, reference)
    return sandboxAt(await sandboxEvents(this.gateway.db, tenant, reference), at)
  }

  @Post(':sandbox/terminate')
  @HttpCode(202)
  async terminate(@Req() request: Request, @Param('sandbox') reference: string): Promise<Accepted> {
    const { db, messaging } = this.gateway
    const origin = originOf(request)
    const sandboxId = await findSandboxId(db, origin.tenant, reference)
    return (await sendCommand(messaging, origin, 'sandbox.terminate', { sandboxId })).accepted
  }

  /** All tags that it has from now on. */
  @Put(':sandbox/tags')
  async tag(
    @Req() request: Request,
    @Param('sandbox') reference: string,
    @Body() body: unknown,
  ): Promise<Accepted> {
    return await this.label(request, reference, 'sandbox.tag', parseBody(tagBody, body))
  }

  @Put(':sandbox/name')
  async name(
    @Req() request: Request,
    @Param('sandbox') reference: string,
    @Body() body: unknown,
  ): Promise<Accepted> {
    return await this.label(request, reference, 'sandbox.name', parseBody(nameBody, body))
  }

  private async label(
    request: Request,
    reference: string,
    command: 'sandbox.tag' | 'sandbox.name',
    body: object,
  ): Promise<Accepted> {
    const { db, messaging } = this.gateway
    const origin = originOf(request)
    const sandboxId = await findSandboxId(db, origin.tenant, reference)
    return (await sendCommand(messaging, origin, command, { sandboxId, ...body })).accepted
  }

  /** Answers with the end, or with the state as it is when the time is up. */
  @Get(':sandbox/wait')
  async wait(
    @Req() request: Request,
    @Param('sandbox') reference: string,
    @Res({ passthrough: true }) response: Response,
  ): Promise<SandboxView> {
    const { timeoutMs } = readQuery(request, WAIT_QUERY)
    const { db, waiter } = this.gateway
    const { tenant } = principalOf(request)
    const { sandboxId } = await readSandbox(db, tenant, reference)
    await waiter.until(sandboxId, SANDBOX_TERMINAL_EVENTS, { timeoutMs, signal: goneSignal(response) })
    return await readSandbox(db, tenant, sandboxId)
  }

  @Get(':sandbox/logs')
  async logs(@Req() request: Request, @Param('sandbox') reference: string, @Res() response: Response) {
    const { stream, ...range } = readQuery(request, LOGS_QUERY)
    const sandbox = await readSandbox(this.gateway.db, principalOf(request).tenant, reference)
    const signal = goneSignal(response)
    await sendOutput(response, await outputOfMain(this.gateway, sandbox, { stream, ...range, signal }))
  }

  /** As that of an exec. */
  @Put(':sandbox/stdin')
  async stdin(
    @Req() request: Request,
    @Param('sandbox') reference: string,
    @Res({ passthrough: true }) response: Response,
  ): Promise<{ acceptedTo: number }> {
    requireBytes(request)
    const range = readQuery(request, STDIN_QUERY)
    const sandbox = await readSandbox(this.gateway.db, principalOf(request).tenant, reference)
    return await writeMainStdin(this.gateway, sandbox, {
      ...range,
      body: request,
      signal: goneSignal(response),
    })
  }

  @Post(':sandbox/resize')
  @HttpCode(200)
  async resize(@Req() request: Request, @Param('sandbox') reference: string, @Body() body: unknown) {
    const size = parseBody(resizeBody, body)
    const sandbox = await readSandbox(this.gateway.db, principalOf(request).tenant, reference)
    await resizeMain(this.gateway, sandbox, size)
    return { ok: true }
  }

  @Get(':sandbox/history')
  async history(
    @Req() request: Request,
    @Param('sandbox') reference: string,
  ): Promise<{ sandboxId: string; events: EventView[] }> {
    const { at } = readQuery(request, AT_QUERY)
    const events = await sandboxEvents(this.gateway.db, principalOf(request).tenant, reference)
    const past = at === undefined ? events : events.filter((event) => event.at <= at)
    return { sandboxId: events[0]!.stream, events: past.map(eventView) }
  }

  @Post(':sandbox/execs')
  async exec(
    @Req() request: Request,
    @Param('sandbox') reference: string,
    @Body() body: unknown,
    @Res({ passthrough: true }) response: Response,
  ): Promise<Accepted & { exec: ExecView | null }> {
    const checked = parseBody(execBody, body)
    const origin = originOf(request)
    const sandboxId = await findSandboxId(this.gateway.db, origin.tenant, reference)
    return await runExec(this.gateway, origin, { ...checked, sandboxId }, goneSignal(response))
  }

  @Get(':sandbox/execs')
  async execs(@Req() request: Request, @Param('sandbox') reference: string): Promise<{ execs: ExecView[] }> {
    const { tenant } = principalOf(request)
    const { sandboxId } = await readSandbox(this.gateway.db, tenant, reference)
    return { execs: await execsOf(this.gateway.db, tenant, sandboxId) }
  }

  /** Answers when the snapshot is an image that sandboxes can start from. */
  @Post(':sandbox/snapshot')
  async snapshot(
    @Req() request: Request,
    @Param('sandbox') reference: string,
    @Res({ passthrough: true }) response: Response,
  ) {
    const origin = originOf(request)
    const sandboxId = await findSandboxId(this.gateway.db, origin.tenant, reference)
    return await createSnapshot(this.gateway, origin, sandboxId, goneSignal(response))
  }
}

function splitOnce(text: string, separator: string): [string, string] {
  const at = text.indexOf(separator)
  return [text.slice(0, at), text.slice(at + separator.length)]
}
