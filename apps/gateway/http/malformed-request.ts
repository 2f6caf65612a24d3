/** Bytes that are no HTTP request never come to a route; their sender gets a coded error all the same. */

import type { IncomingMessage, Server, ServerResponse } from 'node:http'
import type { Duplex } from 'node:stream'
import { CODES, Rejected, toErrorBody } from '#libs/domain'

export function answerMalformed(server: Server): void {
  const current = new WeakMap<Duplex, { request: IncomingMessage; response: ServerResponse }>()
  server.on('request', (request: IncomingMessage, response: ServerResponse) => {
    current.set(request.socket, { request, response })
  })
  server.on('clientError', (error: NodeJS.ErrnoException, socket: Duplex) => {
    if (!socket.writable || error.code === 'ECONNRESET') {
      socket.destroy()
      return
    }
    const { request, response } = current.get(socket) ?? {}
    // The rest of a request that has its answer already: a second one would be taken for that of the next.
    if (request?.complete === false && response?.headersSent) {
      socket.end()
      return
    }
    const refused = refusalOf(error.code)
    const body = JSON.stringify({ error: toErrorBody(refused) })
    const head = [
      // Clients go by the number.
      `HTTP/1.1 ${CODES[refused.code].http} Refused`,
      'Content-Type: application/json; charset=utf-8',
      `Content-Length: ${Buffer.byteLength(body)}`,
      'Connection: close',
    ]
    socket.end(`${head.join('\r\n')}\r\n\r\n${body}`)
  })
  // Node would answer 417 without a body. What is expected beside `100-continue` is in no standard.
  server.on('checkExpectation', (_: IncomingMessage, response: ServerResponse) => {
    const refused = new Rejected('INVALID_ARGUMENT', 'the header Expect names what is not served here', {
      hint: 'leave it out, or send 100-continue',
    })
    response
      .writeHead(CODES[refused.code].http, {
        'content-type': 'application/json; charset=utf-8',
        connection: 'close',
      })
      .end(JSON.stringify({ error: toErrorBody(refused) }))
  })
}

function refusalOf(code: string | undefined): Rejected {
  switch (code) {
    case 'HPE_HEADER_OVERFLOW':
      return new Rejected('PAYLOAD_TOO_LARGE', 'the request line and the headers have more than 16 KiB', {
        hint: 'send less in the query: bodies may have 1 MiB',
      })
    case 'ERR_HTTP_REQUEST_TIMEOUT':
      return new Rejected('INVALID_ARGUMENT', 'the request did not arrive as a whole in time')
    default:
      return new Rejected('INVALID_ARGUMENT', 'this is not an HTTP request', {
        hint: 'a length or a chunk that is not what it says, a control character in a header or the path?',
      })
  }
}
