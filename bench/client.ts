/** A caller of the system under measurement: one connection to the broker, one to the gateway, kept open. */

import { randomUUID } from 'node:crypto'
import { commandHeaders, connect, type JsonObject } from '#libs/messaging'

export interface Client {
  command(name: string, body: object): Promise<JsonObject>
  read(name: string, body: object): Promise<JsonObject>
  post(path: string, body: object): Promise<unknown>
  /** A request with the token; an answer other than 2xx is an error. */
  fetch(path: string, init?: RequestInit & { duplex?: 'half' }): Promise<Response>
  /** Calls back with the subject of each event of the tenant, until the returned function is called. */
  onEvents(listener: (subject: string) => void): () => void
  close(): Promise<void>
}

const TIMEOUT_MS = 60_000

export async function openClient(env: Record<string, string>): Promise<Client> {
  const credentials = { user: env.NATS_USER!, password: env.NATS_PASSWORD! }
  const messaging = await connect({ servers: env.NATS_URL!, name: 'bench', credentials })
  const call = async (path: string, init: RequestInit & { duplex?: 'half' } = {}) => {
    const headers = { ...init.headers, authorization: `Bearer ${env.SANDTRAIL_TOKEN}` }
    const response = await fetch(`${env.SANDTRAIL_URL}${path}`, { ...init, headers })
    if (!response.ok) throw new Error(`${path} answered ${response.status}: ${await response.text()}`)
    return response
  }
  return {
    command(name, body) {
      const headers = commandHeaders({
        commandId: randomUUID(),
        expiresAt: new Date(Date.now() + TIMEOUT_MS),
      })
      return messaging.request(`req.${name}`, body, { headers, timeoutMs: TIMEOUT_MS })
    },
    read: (name, body) => messaging.request(`req.${name}`, body, { timeoutMs: TIMEOUT_MS }),
    async post(path, body) {
      const headers = { 'content-type': 'application/json' }
      return (await call(path, { method: 'POST', headers, body: JSON.stringify(body) })).json()
    },
    fetch: call,
    onEvents(listener) {
      const subscription = messaging.connection.subscribe('evt.>', {
        callback: (_, { subject }) => listener(subject),
      })
      return () => subscription.unsubscribe()
    },
    close: () => messaging.close(),
  }
}
