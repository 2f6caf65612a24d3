/** Our errors as gRPC statuses. The SDKs show the message and try 1, 2, 4, 13 and 14 again by themselves. */

import { Code, ConnectError } from '@connectrpc/connect'
import { CODES, type ErrorCode, Rejected, SandtrailError } from '#libs/domain'
import type { Log } from '#libs/service'
import { RPCRetryPolicySchema } from './gen/client_pb.js'

/** A command router's callers know an ended sandbox by NOT_FOUND. */
const ENDED: ReadonlySet<ErrorCode> = new Set<ErrorCode>(['SANDBOX_GONE', 'SANDBOX_NOT_RUNNING'])
/** INTERNAL would be tried again, each time with a new effect. */
const FINAL: ReadonlySet<ErrorCode> = new Set<ErrorCode>(['SNAPSHOT_FAILED'])

export function toConnectError(error: unknown, log: Log, { ofRouter }: { ofRouter: boolean }): ConnectError {
  if (error instanceof ConnectError) return error
  if (!(error instanceof Rejected || error instanceof SandtrailError)) {
    log.error({ err: error }, 'a call failed')
    return new ConnectError('an internal error occurred: see the log of the gateway', Code.Internal)
  }
  const text = error.hint === null ? error.message : `${error.message} (${error.hint})`
  return new ConnectError(text, statusOf(error.code, ofRouter), undefined, retryAdvice(error))
}

function statusOf(code: ErrorCode, ofRouter: boolean): Code {
  if (ofRouter && ENDED.has(code)) return Code.NotFound
  if (FINAL.has(code)) return Code.FailedPrecondition
  return CODES[code].grpc
}

/** Its presence makes an SDK wait and try again, whatever the code. */
function retryAdvice(error: Rejected | SandtrailError) {
  if (!(error instanceof SandtrailError) || error.retryAfterMs === undefined) return []
  return [{ desc: RPCRetryPolicySchema, value: { retryAfterSecs: error.retryAfterMs / 1_000 } }]
}

/** What an SDK can ask for and this service does not have: said, never ignored. */
export function unimplemented(what: string, why: string): Rejected {
  return new Rejected('UNIMPLEMENTED', `${what} is not supported: ${why}`)
}
