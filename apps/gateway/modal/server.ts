/** The port that the official Modal SDKs are pointed at by MODAL_SERVER_URL: control plane and command router. */

import type { OutgoingHttpHeaders } from 'node:http'
import { Code, ConnectError, type ConnectRouter } from '@connectrpc/connect'
import { connectNodeAdapter } from '@connectrpc/connect-node'
import type { HttpTls } from '../config.js'
import type { Gateway } from '../gateway.js'
import { apps } from './apps.js'
import { AUTHORITY, guard } from './calls.js'
import { environments } from './environments.js'
import { ModalClient } from './gen/client_pb.js'
import { TaskCommandRouter } from './gen/task_command_router_pb.js'
import { images } from './images.js'
import { type Listener, listen } from './listener.js'
import { mainStdio } from './main-stdio.js'
import { answerNotServed } from './not-served.js'
import { taskCommandRouter } from './router.js'
import { sandboxCatalog } from './sandbox-catalog.js'
import { sandboxes } from './sandboxes.js'
import { secrets } from './secrets.js'
import { volumes } from './volumes.js'

/** The SDKs' own limit, both ways. */
const MESSAGE_BYTES_MAX = 100 * 1024 * 1024
const DRAIN_MS = 5_000

export interface ModalServer {
  port: number
  stop(): Promise<void>
}

/**
 * The library escapes punctuation in the message, which gRPC does not ask for, and grpc-js, under the JavaScript SDK,
 * shows it as it is.
 */
function withPlainMessage(trailers: OutgoingHttpHeaders): OutgoingHttpHeaders {
  const message = trailers['grpc-message']
  if (typeof message !== 'string') return trailers
  const plain = message.replace(/%(?:2[3-9A-F]|3[A-F]|40)/gi, (code) =>
    code === '%25' ? code : decodeURIComponent(code),
  )
  return { ...trailers, 'grpc-message': plain }
}

export async function startModalServer(
  gateway: Gateway,
  { host, port, tls }: { host: string; port: number; tls: HttpTls | null },
): Promise<ModalServer> {
  const stopping = new AbortController()
  const handler = connectNodeAdapter({
    connect: false,
    grpcWeb: false,
    readMaxBytes: MESSAGE_BYTES_MAX,
    writeMaxBytes: MESSAGE_BYTES_MAX,
    interceptors: [guard(gateway)],
    shutdownSignal: stopping.signal,
    routes(router: ConnectRouter) {
      router.service(ModalClient, {
        ...environments(gateway),
        ...apps(gateway),
        ...images(gateway),
        ...secrets(gateway),
        ...sandboxes(gateway),
        ...sandboxCatalog(gateway),
        ...mainStdio(gateway),
        ...volumes(gateway),
      })
      router.service(TaskCommandRouter, taskCommandRouter(gateway))
    },
    fallback: answerNotServed,
  })
  const listener: Listener = await listen({ host, port, tls, log: gateway.log }, (request, response) => {
    request.headers[AUTHORITY] = request.authority
    const addTrailers = response.addTrailers.bind(response)
    response.addTrailers = (trailers) => addTrailers(withPlainMessage(trailers))
    handler(request, response)
  })
  return {
    port: listener.port,
    async stop() {
      stopping.abort(new ConnectError('the gateway is stopping', Code.Unavailable))
      await listener.close(DRAIN_MS)
    },
  }
}
