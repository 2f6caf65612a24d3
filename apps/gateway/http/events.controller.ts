/** /v1/events and /v1/fleet: the ledger of the tenant as pages or as a stream, and the whole fleet at a moment. */

import { once } from 'node:events'
import { Controller, Get, Param, Req, Res } from '@nestjs/common'
import type { Request, Response } from 'express'
import { z } from 'zod'
import { parseBody } from '#libs/contract'
import { imageScopes } from '#libs/domain'
import { lastPosition } from '#libs/event-store'
import { type FeedFilter, followFeed, readFeed } from '../event-feed.js'
import { expandTypes } from '../event-types.js'
import { Gateway } from '../gateway.js'
import { findStream, streamEvents } from '../lookup.js'
import { fleetAt } from '../time-travel.js'
import { eventView } from '../views/event.js'
import { principalOf } from './auth.js'
import { goneSignal, readQuery, wholeNumber } from './input.js'
import { EVENTS_QUERY, FLEET_QUERY } from './queries.js'

/** Proxies give up on connections that say nothing. */
const KEEP_ALIVE_MS = 15_000

@Controller('v1')
export class EventsController {
  constructor(private readonly gateway: Gateway) {}

  /** A page as JSON; with `Accept: text/event-stream` a stream that goes on, each event with its position as id. */
  @Get('events')
  async events(@Req() request: Request, @Res() response: Response): Promise<void> {
    const { type, since, after, limit } = readQuery(request, EVENTS_QUERY)
    const patterns = type?.flatMap((text) => text.split(','))
    const filter = { tenant: principalOf(request).tenant, types: expandTypes(patterns), since }
    if (request.header('accept')?.includes('text/event-stream')) {
      const resumeAt = readLastEventId(request) ?? after
      // A follower that names no place begins now, or at the moment that it named.
      const start = resumeAt === undefined ? (since === undefined ? null : 0n) : BigInt(resumeAt)
      await this.stream(response, filter, start)
      return
    }
    const { events, next } = await readFeed(this.gateway, filter, BigInt(after ?? 0), limit)
    response.json({ events: events.map(eventView), next: Number(next) })
  }

  /** Of an image, a volume, a snapshot, or whatever else has a stream; an operator also sees the platform's. */
  @Get('streams/:stream/events')
  async streamHistory(@Req() request: Request, @Param('stream') reference: string) {
    const { tenant, operator } = principalOf(request)
    const stream = await findStream(this.gateway.db, tenant, reference)
    const events = await streamEvents(this.gateway.db, operator ? imageScopes(tenant) : [tenant], stream)
    return { stream, events: events.map(eventView) }
  }

  @Get('fleet')
  async fleet(@Req() request: Request) {
    const { at } = readQuery(request, FLEET_QUERY)
    return await fleetAt(this.gateway.db, principalOf(request).tenant, at ?? new Date())
  }

  private async stream(response: Response, filter: FeedFilter, after: bigint | null): Promise<void> {
    // Before the head goes out: whoever has it hears of everything from then on.
    const start = after ?? (await lastPosition(this.gateway.db))
    response.status(200)
    response.setHeader('Content-Type', 'text/event-stream')
    response.setHeader('Cache-Control', 'no-store')
    response.flushHeaders()
    const signal = goneSignal(response)
    let lastSentMs = performance.now()
    try {
      for await (const event of followFeed(this.gateway, filter, start, signal)) {
        if (event === null && performance.now() - lastSentMs < KEEP_ALIVE_MS) continue
        lastSentMs = performance.now()
        const free = response.write(event === null ? ':\n\n' : sse(eventView(event)))
        if (!free) await once(response, 'drain', { signal })
      }
    } catch (error) {
      // Its head is out, so nothing more can be told: the client comes back with its last id.
      if (!signal.aborted) this.gateway.log.warn({ err: error }, 'an event stream broke')
    }
    response.end()
  }
}

function sse(view: ReturnType<typeof eventView>): string {
  return `id: ${view.position}\nevent: ${view.type}\ndata: ${JSON.stringify(view)}\n\n`
}

const LAST_EVENT_ID = { 'Last-Event-ID': wholeNumber(0, Number.MAX_SAFE_INTEGER).optional() }

/** @throws Rejected INVALID_ARGUMENT: a follower whose place cannot be read must not silently begin elsewhere */
function readLastEventId(request: Request): number | undefined {
  // A client that has not seen any event may send it empty.
  const text = request.header('last-event-id') || undefined
  return parseBody(z.strictObject(LAST_EVENT_ID), { 'Last-Event-ID': text })['Last-Event-ID']
}
