/**
 * Three kinds of trouble look different: `Rejected` is a refusal by a rule (the caller's to mend),
 * `SandtrailError` is trouble outside our rules (a peer is away, a disk is full), and anything else is our bug.
 */

interface CodeEntry {
  http: number
  grpc: number
  exit: number
}

/** Every stable code, once: HTTP status, gRPC status, exit code of the CLI. docs/errors.md is printed from it. */
export const CODES = {
  INVALID_ARGUMENT: { http: 400, grpc: 3, exit: 2 },
  UNAUTHENTICATED: { http: 401, grpc: 16, exit: 4 },
  PERMISSION_DENIED: { http: 403, grpc: 7, exit: 4 },
  NOT_FOUND: { http: 404, grpc: 5, exit: 3 },
  SANDBOX_NOT_FOUND: { http: 404, grpc: 5, exit: 3 },
  SANDBOX_GONE: { http: 409, grpc: 9, exit: 5 },
  SANDBOX_NOT_RUNNING: { http: 409, grpc: 9, exit: 5 },
  EXEC_NOT_FOUND: { http: 404, grpc: 5, exit: 3 },
  EXEC_ENDED: { http: 409, grpc: 9, exit: 5 },
  EXEC_LOST: { http: 409, grpc: 10, exit: 125 },
  IMAGE_NOT_FOUND: { http: 404, grpc: 5, exit: 3 },
  IMAGE_NOT_READY: { http: 409, grpc: 9, exit: 5 },
  SNAPSHOT_NOT_FOUND: { http: 404, grpc: 5, exit: 3 },
  SNAPSHOT_NOT_READY: { http: 409, grpc: 9, exit: 5 },
  SNAPSHOT_FAILED: { http: 500, grpc: 13, exit: 125 },
  VOLUME_NOT_FOUND: { http: 404, grpc: 5, exit: 3 },
  VOLUME_IN_USE: { http: 409, grpc: 9, exit: 5 },
  /** An operator has suspended the tenant, or removed it. */
  TENANT_SUSPENDED: { http: 403, grpc: 7, exit: 4 },
  TENANT_IN_USE: { http: 409, grpc: 9, exit: 5 },
  APP_NOT_FOUND: { http: 404, grpc: 5, exit: 3 },
  APP_STOPPED: { http: 409, grpc: 9, exit: 5 },
  NAME_TAKEN: { http: 409, grpc: 6, exit: 5 },
  ALREADY_NAMED: { http: 409, grpc: 9, exit: 5 },
  NO_CAPACITY: { http: 429, grpc: 8, exit: 6 },
  QUOTA_EXCEEDED: { http: 429, grpc: 8, exit: 6 },
  RESOURCE_EXHAUSTED: { http: 429, grpc: 8, exit: 6 },
  MISPLACED: { http: 409, grpc: 9, exit: 5 },
  COMMAND_ID_REUSED: { http: 409, grpc: 6, exit: 5 },
  COMMAND_EXPIRED: { http: 409, grpc: 9, exit: 5 },
  STALE_EPOCH: { http: 409, grpc: 10, exit: 5 },
  STREAM_BUSY: { http: 409, grpc: 10, exit: 7 },
  PAYLOAD_TOO_LARGE: { http: 413, grpc: 8, exit: 2 },
  OUTPUT_DROPPED: { http: 410, grpc: 11, exit: 125 },
  UNAVAILABLE: { http: 503, grpc: 14, exit: 7 },
  /** A peer that cannot be trusted, or does not encrypt. It passes when somebody renews a certificate. */
  TLS_FAILED: { http: 503, grpc: 14, exit: 7 },
  /** A service refuses to start with what it was given. */
  CONFIG_INVALID: { http: 500, grpc: 9, exit: 2 },
  DEADLINE_EXCEEDED: { http: 504, grpc: 4, exit: 124 },
  UNIMPLEMENTED: { http: 501, grpc: 12, exit: 2 },
  AGENT_UNREACHABLE: { http: 503, grpc: 14, exit: 7 },
  NO_SPACE: { http: 507, grpc: 8, exit: 7 },
  INTERNAL: { http: 500, grpc: 13, exit: 125 },
} as const satisfies Record<string, CodeEntry>

export type ErrorCode = keyof typeof CODES

/** A refusal by a rule. Stored with the command's id: a re-send is refused alike. */
export class Rejected extends Error {
  override readonly name = 'Rejected'
  readonly hint: string | null

  constructor(
    readonly code: ErrorCode,
    message: string,
    options: { hint?: string } = {},
  ) {
    super(message)
    this.hint = options.hint ?? null
  }
}

/** Trouble that may pass: never stored as a command's outcome. */
export class SandtrailError extends Error {
  override readonly name = 'SandtrailError'
  readonly hint: string | null
  readonly retryable: boolean
  /** When trying again is worth it; undefined: nobody knows. */
  readonly retryAfterMs: number | undefined
  /** One word of ours for logs and the audit: which quota. Does not cross a wire. */
  readonly detail: string | null

  constructor(
    readonly code: ErrorCode,
    message: string,
    options: {
      hint?: string
      retryable?: boolean
      retryAfterMs?: number
      detail?: string
      cause?: unknown
    } = {},
  ) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause })
    this.hint = options.hint ?? null
    this.retryable = options.retryable ?? RETRYABLE.has(code)
    this.retryAfterMs = options.retryAfterMs
    this.detail = options.detail ?? null
  }
}

const RETRYABLE: ReadonlySet<ErrorCode> = new Set<ErrorCode>([
  'UNAVAILABLE',
  'TLS_FAILED',
  'DEADLINE_EXCEEDED',
  'STREAM_BUSY',
  'NO_CAPACITY',
  'RESOURCE_EXHAUSTED',
  'AGENT_UNREACHABLE',
])

/** The form in which an error crosses a wire: NATS replies, HTTP bodies, `-o json`. */
export interface ErrorBody {
  code: ErrorCode
  message: string
  hint: string | null
  retryable: boolean
  /** Milliseconds; absent where nobody knows. */
  retryAfterMs?: number
}

/** Anything thrown, as what may be shown. An unknown error becomes INTERNAL without its text, which may hold secrets. */
export function toErrorBody(error: unknown): ErrorBody {
  if (error instanceof Rejected) {
    return { code: error.code, message: error.message, hint: error.hint, retryable: false }
  }
  if (error instanceof SandtrailError) {
    const { code, message, hint, retryable, retryAfterMs } = error
    return { code, message, hint, retryable, ...(retryAfterMs !== undefined && { retryAfterMs }) }
  }
  return {
    code: 'INTERNAL',
    message: 'an internal error occurred',
    hint: 'see the service log',
    retryable: false,
  }
}

/** The other way: an error body from a peer, as the error to throw here. */
export function fromErrorBody(body: ErrorBody): Rejected | SandtrailError {
  const hint = body.hint === null ? {} : { hint: body.hint }
  const retryAfterMs = body.retryAfterMs === undefined ? {} : { retryAfterMs: body.retryAfterMs }
  const known = Object.hasOwn(CODES, body.code) ? body.code : 'INTERNAL'
  if (body.retryable || known === 'INTERNAL') {
    return new SandtrailError(known, body.message, { ...hint, ...retryAfterMs, retryable: body.retryable })
  }
  return new Rejected(known, body.message, hint)
}
