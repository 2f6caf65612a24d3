/** Reads over NATS, for programs that have nothing but a NATS client. docs/asyncapi.yaml describes them. */

import { Controller, UseFilters } from '@nestjs/common'
import { Ctx, MessagePattern, Payload } from '@nestjs/microservices'
import { z } from 'zod'
import { appId, parseBody, reference, sandboxCursor } from '#libs/contract'
import { EXEC_TERMINAL_EVENTS, SANDBOX_TERMINAL_EVENTS } from '#libs/domain'
import { ErrorsPassThrough, type JsonObject, type MessageContext } from '#libs/messaging'
import { readFeed } from '../event-feed.js'
import { expandTypes, PATTERNS_MAX } from '../event-types.js'
import { Gateway } from '../gateway.js'
import { readExec, readSandbox } from '../lookup.js'
import { readOutputPiece } from '../output.js'
import { readSandboxList } from '../sandbox-list.js'
import { messageOf } from '../views/event.js'
import { readWorkers } from '../workers.js'

/** A reply is at most 1 MiB: 256 KiB are 342 KiB as base64. */
const PIECE_BYTES_MAX = 256 * 1024
const WAIT_MS_MAX = 60_000

const sandboxBody = z.strictObject({ sandboxId: reference(64) })
const execBody = z.strictObject({ execId: reference(64) })
const timeoutMs = z.int().min(0).max(WAIT_MS_MAX).default(30_000)
const listBody = z.strictObject({
  states: z.array(z.enum(['starting', 'running', 'stopping', 'ended'])).optional(),
  tags: z
    .record(reference(64), reference(256).or(z.literal('')))
    .refine((tags) => Object.keys(tags).length <= 64, 'at most 64 tags')
    .default({}),
  name: reference(64).optional(),
  appId: appId.optional(),
  limit: z.int().min(1).max(500).default(100),
  cursor: sandboxCursor.optional(),
})
const outputBody = z.strictObject({
  execId: reference(64),
  stream: z.enum(['stdout', 'stderr']),
  offset: z.int().min(0).default(0),
  limit: z.int().min(1).max(PIECE_BYTES_MAX).default(PIECE_BYTES_MAX),
})
const eventsBody = z.strictObject({
  /** As text, for it may pass 2^53; a number is taken too. */
  afterPosition: z.union([z.string().regex(/^\d{1,18}$/, 'must be a position'), z.int().min(0)]).default('0'),
  limit: z.int().min(1).max(500).default(100),
  types: z.array(z.string().max(128)).max(PATTERNS_MAX).optional(),
})

/** Of all events in one reply, as JSON: the rest is read with the next call. */
const EVENTS_BYTES_MAX = 768 * 1024

@UseFilters(ErrorsPassThrough)
@Controller()
export class ReadsController {
  constructor(private readonly gateway: Gateway) {}

  @MessagePattern({ request: 'v1.*.req.sandbox.get' })
  async getSandbox(@Payload() body: JsonObject, @Ctx() { tenant }: MessageContext) {
    const { sandboxId } = parseBody(sandboxBody, body)
    return { sandbox: await readSandbox(this.gateway.db, tenant, sandboxId) }
  }

  @MessagePattern({ request: 'v1.*.req.sandbox.list' })
  async listSandboxes(@Payload() body: JsonObject, @Ctx() { tenant }: MessageContext) {
    return await readSandboxList(this.gateway, { tenant, ...parseBody(listBody, body) })
  }

  @MessagePattern({ request: 'v1.*.req.sandbox.wait' })
  async waitSandbox(@Payload() body: JsonObject, @Ctx() { tenant }: MessageContext) {
    const { sandboxId: reference, timeoutMs: ms } = parseBody(sandboxBody.extend({ timeoutMs }), body)
    const { db, waiter } = this.gateway
    const { sandboxId } = await readSandbox(db, tenant, reference)
    await waiter.until(sandboxId, SANDBOX_TERMINAL_EVENTS, { timeoutMs: ms })
    return { sandbox: await readSandbox(db, tenant, sandboxId) }
  }

  @MessagePattern({ request: 'v1.*.req.exec.get' })
  async getExec(@Payload() body: JsonObject, @Ctx() { tenant }: MessageContext) {
    const { execId } = parseBody(execBody, body)
    return { exec: await readExec(this.gateway.db, tenant, execId) }
  }

  @MessagePattern({ request: 'v1.*.req.exec.wait' })
  async waitExec(@Payload() body: JsonObject, @Ctx() { tenant }: MessageContext) {
    const { execId: reference, timeoutMs: ms } = parseBody(execBody.extend({ timeoutMs }), body)
    const { db, waiter } = this.gateway
    const { execId } = await readExec(db, tenant, reference)
    await waiter.until(execId, EXEC_TERMINAL_EVENTS, { timeoutMs: ms })
    return { exec: await readExec(db, tenant, execId) }
  }

  @MessagePattern({ request: 'v1.*.req.exec.output' })
  async output(@Payload() body: JsonObject, @Ctx() { tenant }: MessageContext) {
    const { execId, ...range } = parseBody(outputBody, body)
    const piece = await readOutputPiece(this.gateway, tenant, execId, range)
    return { dataBase64: piece.data.toString('base64'), offset: piece.offset, end: piece.end }
  }

  /** The platform's own subject: for operators. */
  @MessagePattern({ request: 'v1.platform.req.worker.list' })
  async listWorkers() {
    return { workers: await readWorkers(this.gateway.db) }
  }

  @MessagePattern({ request: 'v1.*.req.events.read' })
  async events(@Payload() body: JsonObject, @Ctx() { tenant }: MessageContext) {
    const { afterPosition, limit, types } = parseBody(eventsBody, body)
    const filter = { tenant, types: expandTypes(types), since: undefined }
    const { events } = await readFeed(this.gateway, filter, BigInt(afterPosition), limit)
    const messages = []
    let bytes = 0
    for (const event of events) {
      const message = messageOf(event)
      bytes += Buffer.byteLength(JSON.stringify(message))
      if (messages.length > 0 && bytes > EVENTS_BYTES_MAX) break
      messages.push(message)
    }
    return { events: messages }
  }
}
