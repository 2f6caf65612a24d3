/** What lies on the broker and waits: for a service, or for an operator. */

import type { Messaging } from './messaging.js'
import { COMMANDS, DEAD_LETTERS, managerOf } from './streams.js'

export interface Backlog {
  consumers: {
    durable: string
    /** Not handed out yet. */
    pending: number
    /** Handed out, and not settled yet. */
    unsettled: number
  }[]
  deadLetters: number
}

/** @throws the client library's error when the broker is away */
export async function readBacklog(messaging: Messaging): Promise<Backlog> {
  const jsm = await managerOf(messaging)
  const consumers: Backlog['consumers'] = []
  for await (const { name, num_pending, num_ack_pending } of jsm.consumers.list(COMMANDS)) {
    consumers.push({ durable: name, pending: num_pending, unsettled: num_ack_pending })
  }
  const { state } = await jsm.streams.info(DEAD_LETTERS)
  return { consumers, deadLetters: state.messages }
}
