/**
 * The worker's HTTPS server; gateways proxy it. Bearer token: an EdDSA JWT signed by the installation's data-plane
 * key, `sub` the sandbox id, `aud` the worker id, at most 15 minutes old. `:exec` is an exec id, or `main` for the
 * sandbox's main process.
 *
 *   GET  /v1/sandboxes/:sandbox/execs/:exec/output/:stream?offset=N&follow=0|1&limit=N
 *        raw bytes from offset N; `sandtrail-offset` tells the first byte's offset; with `follow=1` until the process
 *        has ended and all is sent, else what is there now. 410 OUTPUT_DROPPED (`firstOffset`) below what is kept.
 *        `sandtrail-end: 1` when the stream was already complete at the answer's start.
 *   PUT  /v1/sandboxes/:sandbox/execs/:exec/stdin?offset=N&eof=0|1     body: bytes; answers {acceptedTo}
 *   POST /v1/sandboxes/:sandbox/execs/:exec/resize                     {rows, cols}
 */
export const DATA_PLANE = {
  output: (sandbox: string, exec: string, stream: 'stdout' | 'stderr') =>
    `/v1/sandboxes/${sandbox}/execs/${exec}/output/${stream}`,
  stdin: (sandbox: string, exec: string) => `/v1/sandboxes/${sandbox}/execs/${exec}/stdin`,
  resize: (sandbox: string, exec: string) => `/v1/sandboxes/${sandbox}/execs/${exec}/resize`,
} as const

/** The name of the main process in data-plane paths. */
export const MAIN_EXEC = 'main'
export const DATA_PLANE_TOKEN_SECONDS_MAX = 900
