/** For tests only: whole, valid append requests; a test says only what matters to it. */

import { randomBytes, randomUUID } from 'node:crypto'
import { makeId } from '#libs/domain'
import { commandHash } from './envelope.js'
import type { AppendRequest, JsonObject, NewEvent } from './types.js'

export function sandboxId(): string {
  return makeId('sb', Date.now(), randomBytes(10))
}

export function event(type = 'Happened', data: JsonObject = {}): NewEvent {
  return { type, typeVersion: 1, data }
}

/** One event on a new stream of its own, unless told otherwise. */
export function request(changes: Partial<AppendRequest> & { stream?: string } = {}): AppendRequest {
  const { stream = sandboxId(), ...rest } = changes
  return {
    tenant: 'acme',
    command: command(),
    outcome: { ok: true },
    meta: meta(),
    at: new Date(),
    writes: [{ stream, expectedVersion: 0, events: [event()] }],
    ...rest,
  }
}

export function command(id: string = randomUUID(), body: JsonObject = {}): AppendRequest['command'] {
  const verb = 'sandbox.create'
  return { id, verb, hash: commandHash(verb, body), expiresAt: new Date(Date.now() + 600_000) }
}

export function meta(): AppendRequest['meta'] {
  return {
    actor: 'token:test',
    causationId: null,
    correlationId: null,
    traceparent: null,
    workerId: null,
    epoch: null,
  }
}
