/**
 * The end of a gateway without a failed call: nothing new is taken, what is in hand is answered, and followers are cut
 * off, since they come back with their offset. Whoever kept a connection open is told that it closes.
 */

import type { Server, ServerResponse } from 'node:http'
import type { NextFunction, Request, Response } from 'express'

/** A command is decided in milliseconds, and waits end with the drain; an upload may take longer and is cut off. */
const DRAIN_MS = 10_000
const LOOK_MS = 20

export class Drain {
  private readonly inHand = new Set<ServerResponse>()
  private isDraining = false

  /** Middleware: before all routes. */
  readonly track = (_: Request, response: Response, next: NextFunction): void => {
    this.inHand.add(response)
    response.once('close', () => this.inHand.delete(response))
    if (this.isDraining) response.setHeader('Connection', 'close')
    next()
  }

  /** Resolves when every answer that had not begun is sent, or the time is up. */
  async drain(server: Server): Promise<void> {
    this.isDraining = true
    for (const response of this.inHand) {
      if (!response.headersSent) response.setHeader('Connection', 'close')
    }
    server.close()
    const giveUpAt = performance.now() + DRAIN_MS
    while (this.isAnswering() && performance.now() < giveUpAt) {
      await new Promise((resolve) => setTimeout(resolve, LOOK_MS))
    }
  }

  /** An answer that has begun and does not end is a follower's. */
  private isAnswering(): boolean {
    return [...this.inHand].some(({ headersSent, writableEnded }) => !headersSent || writableEnded)
  }
}
