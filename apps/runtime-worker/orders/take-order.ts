/**
 * Carries out an order. It may come twice, by request and by heartbeat, in any order: each is idempotent. The reply
 * means that the order survives this process (a create and a stop: also a power cut); the work goes on by itself, and
 * facts tell of it.
 */

import type { Order, OrderReply } from '#libs/contract'
import { SandtrailError } from '#libs/domain'
import { type Log, traced } from '#libs/service'
import type { Sandboxes } from '../sandboxes/registry.js'
import type { SealKey } from './secrets.js'

/** In a span of its own, and told in the log. @throws as `carryOut` */
export function takeOrder(
  order: Order,
  sandboxes: Sandboxes,
  sealKey: SealKey,
  log: Log,
): Promise<OrderReply> {
  const { kind, sandboxId, tenant } = order
  const execId = 'execId' in order ? order.execId : undefined
  log.info({ order: kind, tenant, sandboxId, execId }, 'order taken')
  const attributes = {
    'sandtrail.sandbox_id': sandboxId,
    ...(execId === undefined ? {} : { 'sandtrail.exec_id': execId }),
  }
  return traced(`order ${kind}`, { kind: 'server', attributes }, () => carryOut(order, sandboxes, sealKey))
}

/** @throws Rejected or SandtrailError; one that may pass comes again with the next heartbeat. */
async function carryOut(order: Order, sandboxes: Sandboxes, sealKey: SealKey): Promise<OrderReply> {
  switch (order.kind) {
    case 'create':
      await sandboxes.create(order, sealKey.open(order.secrets))
      return { ok: true }
    case 'stop':
      await sandboxes.stop(order)
      return { ok: true }
    case 'exec':
      startExec(order, sandboxes, sealKey)
      return { ok: true }
    case 'cancel-exec':
      return { ok: true, known: await cancelExec(order, sandboxes) }
    case 'signal': {
      const sandbox = sandboxes.expect(order.sandboxId, order.epoch)
      await sandbox.execs.signal(order.execId, order.signal, order.signalId)
      return { ok: true }
    }
  }
}

function startExec(order: Extract<Order, { kind: 'exec' }>, sandboxes: Sandboxes, sealKey: SealKey): void {
  const { execId, spec, startByMs } = order
  const sandbox = sandboxes.expect(order.sandboxId, order.epoch)
  sandbox.execs.accept(execId, spec, sealKey.open(order.secrets), startByMs)
}

async function cancelExec(
  order: Extract<Order, { kind: 'cancel-exec' }>,
  sandboxes: Sandboxes,
): Promise<boolean> {
  try {
    return await sandboxes.expect(order.sandboxId, order.epoch).execs.cancel(order.execId)
  } catch (error) {
    // A sandbox that is not here takes no exec: there is nothing that could start later.
    if (error instanceof SandtrailError && error.code === 'SANDBOX_NOT_FOUND') return false
    throw error
  }
}
