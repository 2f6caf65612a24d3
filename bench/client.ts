/** A caller of the system under measurement: one connection to the broker, one to the gateway, kept open. */

import { randomUUID } from 'node:crypto'
import { commandHeaders, connect, type JsonObject } from '#libs/messaging'

export interface Client {
  command(name: string, body: object): Promise<JsonObject>
  read(name: string, body: object): Promise<JsonObject>
  post(path: string, body: object): Promise<unknown>
  close(): Promise<void>
}

const TIMEOUT_MS = 60_000

export async function openClient(env: Record<string, string>): Promise<Client> {
  const credentials = { user: env.NATS_USER!, password: env.NATS_PASSWORD! }
  const messaging = await connect({ servers: env.NATS_URL!, name: 'bench', credentials })
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
      const response = await fetch(`${env.SANDTRAIL_URL}${path}`, {
        method: 'POST',
        headers: { authorization: `Bearer ${env.SANDTRAIL_TOKEN}`, 'content-type': 'application/json' },
        body: JSON.stringify(body),
      })
      if (!response.ok) throw new Error(`${path} answered ${response.status}: ${await response.text()}`)
      return response.json()
    },
    close: () => messaging.close(),
  }
}
