/**
 * The worker's HTTPS server: stdin, stdout, stderr and window sizes of execs. Nothing of that goes through events or
 * the broker. Paths and headers: libs/contract/data-plane.ts.
 */

import type { KeyObject } from 'node:crypto'
import { once } from 'node:events'
import type { IncomingMessage, ServerResponse } from 'node:http'
import { createServer, type Server } from 'node:https'
import type { AddressInfo } from 'node:net'
import { STDIN_WINDOW } from '#libs/agent-client'
import { CODES, Rejected, toErrorBody } from '#libs/domain'
import type { Log } from '#libs/service'
import type { Sandboxes } from '../sandboxes/registry.js'
import type { Spool } from '../spool/spool.js'
import type { Certificate } from './certificate.js'
import { findOutput, findSandbox } from './lookup.js'
import { OutputDropped, sendOutput } from './output.js'
import { resize } from './resize.js'
import { parseRoute, type Route } from './route.js'
import { takeStdin } from './stdin.js'
import { checkToken } from './token.js'

/** Each gateway keeps a few connections per reader; beyond this it must wait. */
const CONNECTIONS_MAX = 4_096
const HEADERS_MS_MAX = 10_000
const HEADER_BYTES_MAX = 8_192
const KEEP_ALIVE_MS = 60_000
/** Finds out a peer that vanished without a word. */
const TCP_KEEP_ALIVE_MS = 30_000

export interface DataPlaneContext {
  workerId: string
  tokenKey: KeyObject
  certificate: Certificate
  sandboxes: Sandboxes
  spool: Spool
  log: Log
}

export class DataPlane {
  private readonly server: Server

  constructor(private readonly context: DataPlaneContext) {
    const { key, certificate } = context.certificate
    const options = {
      key,
      cert: certificate,
      maxHeaderSize: HEADER_BYTES_MAX,
      headersTimeout: HEADERS_MS_MAX,
      // A terminal's stdin is one request for as long as its user likes.
      requestTimeout: 0,
      keepAliveTimeout: KEEP_ALIVE_MS,
      keepAlive: true,
      keepAliveInitialDelay: TCP_KEEP_ALIVE_MS,
      noDelay: true,
      // A stdin is handed to the agent in pieces as large as it takes at once.
      highWaterMark: STDIN_WINDOW,
    }
    this.server = createServer(options, (request, response) => void this.serve(request, response))
    this.server.maxConnections = CONNECTIONS_MAX
    this.server.on('tlsClientError', () => {}) // A stranger's handshake; the socket is closed already.
  }

  /** Resolves with the port. */
  async listen(host: string, port: number): Promise<number> {
    this.server.listen(port, host)
    await once(this.server, 'listening')
    return (this.server.address() as AddressInfo).port
  }

  /** Readers and writers come again to the next worker process, at their offsets. */
  async close(): Promise<void> {
    if (!this.server.listening) return
    this.server.close()
    this.server.closeAllConnections()
    await once(this.server, 'close')
  }

  private async serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
    response.on('error', () => {}) // The peer has gone; `close` tells it to whoever cares.
    try {
      const route = parseRoute(request.method ?? '', request.url ?? '/')
      const { tokenKey: key, workerId } = this.context
      await checkToken(request, { key, workerId, sandboxId: route.sandboxId })
      await this.answer(route, request, response)
    } catch (error) {
      this.refuse(error, request, response)
    }
  }

  private async answer(route: Route, request: IncomingMessage, response: ServerResponse): Promise<void> {
    const { sandboxes, spool } = this.context
    switch (route.kind) {
      case 'output': {
        const output = await findOutput(spool, route)
        return sendOutput(response, output[route.stream], route)
      }
      case 'stdin': {
        const sandbox = await findSandbox(sandboxes, route)
        return reply(response, 200, await takeStdin(request, sandbox, route))
      }
      case 'resize': {
        const sandbox = await findSandbox(sandboxes, route)
        await resize(request, sandbox, route.execId)
        return reply(response, 200, { ok: true })
      }
    }
  }

  private refuse(error: unknown, request: IncomingMessage, response: ServerResponse): void {
    const body = toErrorBody(error)
    if (body.code === 'INTERNAL')
      this.context.log.error({ err: error, method: request.method }, 'request failed')
    if (response.headersSent) return void response.destroy()
    // What is left of a body is not read: it may be without end.
    if (!request.complete) response.setHeader('connection', 'close')
    const more = error instanceof OutputDropped ? { firstOffset: error.firstOffset } : {}
    if (error instanceof Rejected && body.code === 'UNAUTHENTICATED')
      response.setHeader('www-authenticate', 'Bearer')
    reply(response, CODES[body.code].http, { error: body, ...more })
  }
}

function reply(response: ServerResponse, status: number, body: object): void {
  response.writeHead(status, { 'content-type': 'application/json', 'cache-control': 'no-store' })
  response.end(JSON.stringify(body))
}
