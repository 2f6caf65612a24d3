/** What is the same for every call: who calls, whether it may now, and what its trouble looks like to an SDK. */

import { createPublicKey } from 'node:crypto'
import {
  type ContextValues,
  createContextKey,
  type Interceptor,
  type StreamResponse,
  type UnaryResponse,
} from '@connectrpc/connect'
import { Rejected, type SandboxId, SandtrailError } from '#libs/domain'
import { findToken } from '#libs/event-store'
import { commandIdFrom, type Origin } from '../commands.js'
import type { Gateway } from '../gateway.js'
import { toConnectError } from './errors.js'
import { TaskCommandRouter } from './gen/task_command_router_pb.js'
import { TokenCheck } from './token-check.js'
import { verifyRouterToken } from './tokens.js'

export interface Call {
  tenant: string
  tokenId: string
  /** The same for each try of one logical call. */
  idempotencyKey: string | undefined
  traceparent: string | null
  /** As the client reached this port: where it will find the command router, too. */
  authority: string
  clientType: string | null
  /** Of a call to the command router: what its token is for. */
  sandboxId: SandboxId | null
}

const CALL = createContextKey<Call | null>(null)
/** A throttled call to the command router is held, since Go and JavaScript give up on it at once. */
const HOLD_MS_MAX = 30_000

/** The call that a handler answers. */
export function callOf(context: { values: ContextValues }): Call {
  const call = context.values.get(CALL)
  if (call === null) throw new Error('the handler is reached without its interceptor')
  return call
}

/** A command of this call; a retry of the call is the same command. `what` tells several of one call apart. */
export function originOf({ tenant, tokenId, idempotencyKey, traceparent }: Call, what: string): Origin {
  const commandId = commandIdFrom(
    idempotencyKey === undefined ? undefined : `modal:${what}:${idempotencyKey}`,
  )
  return { tenant, actor: `token:${tokenId}`, commandId, traceparent }
}

export function guard(gateway: Gateway): Interceptor {
  const publicKey = createPublicKey(gateway.dataPlaneKey)
  const tokens = new TokenCheck(gateway)
  async function authenticateRouter(header: Headers) {
    const access = await verifyRouterToken(publicKey, header.get('authorization'))
    await tokens.require(access)
    return access
  }
  return (next) => async (request) => {
    const ofRouter = request.service.typeName === TaskCommandRouter.typeName
    const fail = (error: unknown) => toConnectError(error, gateway.log, { ofRouter })
    let release: (() => void) | undefined
    try {
      const who = ofRouter
        ? await authenticateRouter(request.header)
        : await authenticate(gateway, request.header, request.method.name)
      const call: Call = {
        sandboxId: null,
        ...who,
        idempotencyKey: first(request.header, 'x-idempotency-key') ?? undefined,
        traceparent: request.header.get('traceparent'),
        authority: request.header.get(AUTHORITY) ?? '',
        clientType: first(request.header, 'x-modal-client-type'),
      }
      const caller = { tenant: call.tenant, actor: `token:${call.tokenId}`, action: request.method.name }
      await admit(gateway, caller, ofRouter)
      let isCut = false
      release = gateway.gate.hold(caller, () => {
        isCut = true
      })
      request.contextValues.set(CALL, call)
      const response = await next(request)
      if (!response.stream) return response
      const goOn = () => {
        if (isCut) throw gateway.gate.suspendedNow(caller)
      }
      const message = watched(response.message, goOn, fail, release)
      release = undefined
      return { ...response, message } as UnaryResponse | StreamResponse
    } catch (error) {
      throw fail(error)
    } finally {
      release?.()
    }
  }
}

/** Where `listen` puts HTTP/2's pseudo-header, which the library does not hand on. */
export const AUTHORITY = 'x-sandtrail-authority'

async function* watched<T>(
  messages: AsyncIterable<T>,
  /** Throws when nothing more may go to the caller. */
  goOn: () => void,
  fail: (error: unknown) => Error,
  release: () => void,
): AsyncIterable<T> {
  try {
    for await (const message of messages) {
      goOn()
      yield message
    }
  } catch (error) {
    throw fail(error)
  } finally {
    release()
  }
}

/** The Go SDK sends its headers twice, which HTTP/2 gives as one with a comma. */
function first(header: Headers, name: string): string | null {
  return header.get(name)?.split(',')[0]?.trim() ?? null
}

async function authenticate({ db, gate }: Gateway, header: Headers, action: string) {
  const id = first(header, 'x-modal-token-id') ?? ''
  const secret = first(header, 'x-modal-token-secret') ?? ''
  const token = id === '' || secret === '' ? null : await findToken(db, secret, id)
  if (token !== null) {
    const { tenant, id: tokenId, suspended } = token
    if (suspended) throw gate.suspendedNow({ tenant, actor: `token:${tokenId}`, action })
    return { tenant, tokenId }
  }
  gate.refused({ tenant: null, actor: null, code: 'UNAUTHENTICATED', action, detail: null })
  throw new Rejected('UNAUTHENTICATED', 'the token is missing, not valid, or was revoked', {
    hint: 'set MODAL_TOKEN_ID and MODAL_TOKEN_SECRET as `sandtrail token create NAME` prints them',
  })
}

async function admit(
  { gate }: Gateway,
  caller: { tenant: string; actor: string; action: string },
  mayHold: boolean,
): Promise<void> {
  const giveUpAt = performance.now() + HOLD_MS_MAX
  for (;;) {
    try {
      return await gate.admit('requests', caller)
    } catch (error) {
      const waitMs = error instanceof SandtrailError ? error.retryAfterMs : undefined
      if (!mayHold || waitMs === undefined || performance.now() + waitMs > giveUpAt) throw error
      await new Promise((resolve) => setTimeout(resolve, waitMs))
    }
  }
}
