/**
 * The orders of one reply to a heartbeat: as many as fit into a message. What is left comes with the next one, for by
 * then the worker has these. None of them can keep back the others, be it too large or not to be made at all.
 */

import type { Order } from '#libs/contract'
import { BODY_BYTES_MAX } from '#libs/messaging'
import type { Log } from '#libs/service'

/** A message less what stands around the orders. */
const BYTES_MAX = BODY_BYTES_MAX - 1_024

export class OrderBatch {
  static readonly MAX = 100

  readonly orders: Order[] = []
  /** Nothing more is made: to seal an order's secrets is the most of its cost. */
  isFull = false
  private bytes = 0

  constructor(private readonly log: Log) {}

  /** @param about the sandbox or exec, for the log */
  async add(about: string, make: () => Order | Promise<Order>): Promise<void> {
    if (this.isFull) return
    let order: Order
    try {
      order = await make()
    } catch (err) {
      // Its secrets may have been erased.
      this.log.warn({ err, about }, 'an order cannot be made')
      return
    }
    const bytes = Buffer.byteLength(JSON.stringify(order)) + 1
    if (bytes > BYTES_MAX) {
      this.log.warn({ about, order: order.kind, bytes }, 'an order is too large for any message')
      return
    }
    this.isFull = this.bytes + bytes > BYTES_MAX || this.orders.length === OrderBatch.MAX
    if (this.isFull) return
    this.orders.push(order)
    this.bytes += bytes
  }
}
