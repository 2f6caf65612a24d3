/** Orders to workers: built from the log, sent at once as the fast path, and again whenever a heartbeat lacks them. */

import { ENV_BYTES_MAX, type Order, type OrderReply, type SealedSecrets, type Secrets } from '#libs/contract'
import {
  EXEC_START_BY_MS,
  type ExecId,
  type ExecSpec,
  Rejected,
  type SandboxId,
  type SandboxSpec,
  type WorkerId,
} from '#libs/domain'
import { findWorker, type JsonObject } from '#libs/event-store'
import { failpoint } from '#libs/failpoint'
import { BODY_BYTES_MAX, COMMAND_ID_HEADER, sealTo, workerSubject } from '#libs/messaging'
import { correlation } from '#libs/service'
import type { Scheduler } from './context.js'
import type { Placed } from './resolve.js'
import { hasSecrets, openFromLog } from './secrets.js'

const NO_SECRETS: Secrets = { env: {} }
/** A worker acknowledges an order once its record is on disk: milliseconds; the heartbeat brings what was missed. */
const ORDER_TIMEOUT_MS = 5_000

/** @throws SandtrailError UNAVAILABLE or DEADLINE_EXCEEDED; the heartbeat's reply will carry the order then */
export async function sendOrder(
  { messaging }: Scheduler,
  workerId: WorkerId,
  order: Order,
): Promise<OrderReply> {
  const { commandId } = correlation()
  const reply = await messaging.request(workerSubject(workerId, 'order'), order as unknown as JsonObject, {
    timeoutMs: ORDER_TIMEOUT_MS,
    // For the worker's log alone: what is done is named by the ids in the order.
    headers: commandId === undefined ? {} : { [COMMAND_ID_HEADER]: commandId },
  })
  return reply as unknown as OrderReply
}

/** Sends without waiting: an acceptance is never held up, or undone, by a worker that does not answer. */
export function dispatch(scheduler: Scheduler, workerId: WorkerId, order: Promise<Order>): void {
  order
    .then(async (ready) => {
      failpoint('dispatch-begun')
      await sendOrder(scheduler, workerId, ready)
      failpoint('dispatch-sent')
    })
    .catch((error) => scheduler.log.warn({ err: error, workerId }, 'an order waits for the next heartbeat'))
}

/** Ids, names of fields and a heartbeat's reply around it. */
const ORDER_OVERHEAD_BYTES = 4_096

/**
 * An order is one message, so what fits into none is not accepted: it could never come to anything.
 *
 * @param inherited whether the sandbox's own env goes with it. Its size is not known without opening it: the most that
 * it can be is set aside.
 * @throws Rejected PAYLOAD_TOO_LARGE
 */
export function checkOrderFits(spec: SandboxSpec | ExecSpec, secrets: Secrets, inherited = false): void {
  const secretBytes = jsonBytes(secrets) + (inherited ? ENV_BYTES_MAX : 0)
  // Sealed and in base64.
  const bytes = ORDER_OVERHEAD_BYTES + jsonBytes(spec) + Math.ceil((secretBytes * 4) / 3)
  if (bytes <= BODY_BYTES_MAX) return
  throw new Rejected('PAYLOAD_TOO_LARGE', 'arguments, env and stdin are together too large for one message', {
    hint: 'send stdin over HTTP, and put large values into a file of an image or a volume',
  })
}

function jsonBytes(value: object): number {
  return Buffer.byteLength(JSON.stringify(value))
}

export async function createOrder(
  scheduler: Scheduler,
  tenant: string,
  sandboxId: SandboxId,
  { spec, epoch, workerId }: Placed,
): Promise<Order> {
  const secrets = spec.envNames.length > 0 ? await openFromLog(scheduler, tenant, sandboxId) : NO_SECRETS
  return {
    kind: 'create',
    tenant,
    sandboxId,
    epoch,
    spec,
    secrets: await sealSecrets(scheduler, workerId, secrets),
  }
}

export async function execOrder(
  scheduler: Scheduler,
  tenant: string,
  sandbox: Placed,
  execId: ExecId,
  spec: ExecSpec,
): Promise<Order> {
  const { sandboxId, epoch } = spec
  const hasOwn = spec.envNames.length > 0 || spec.stdin === 'inline'
  const [ofSandbox, ofExec] = await Promise.all([
    sandbox.spec.envNames.length > 0 ? openFromLog(scheduler, tenant, sandboxId) : NO_SECRETS,
    hasOwn ? openFromLog(scheduler, tenant, execId) : NO_SECRETS,
  ])
  const secrets = await sealSecrets(scheduler, sandbox.workerId, {
    ...ofExec,
    env: { ...ofSandbox.env, ...ofExec.env },
  })
  return { kind: 'exec', tenant, sandboxId, epoch, execId, spec, secrets, startByMs: EXEC_START_BY_MS }
}

export function stopOrder(tenant: string, sandboxId: SandboxId, epoch: number, reason: string): Order {
  return { kind: 'stop', tenant, sandboxId, epoch, reason }
}

async function sealSecrets({ db }: Scheduler, workerId: WorkerId, secrets: Secrets): Promise<SealedSecrets> {
  if (!hasSecrets(secrets)) return null
  const worker = await findWorker(db, workerId)
  if (!worker) throw new Error(`worker ${workerId} is not registered`)
  return sealTo(String(worker.info.sealKey), Buffer.from(JSON.stringify(secrets)))
}
