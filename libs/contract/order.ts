/** Orders come from the scheduler, by request and in the reply to a heartbeat; their shape is checked all the same. */

import { z } from 'zod'
import { type ExecId, isId, type SandboxId } from '#libs/domain'
import { parseBody } from './check.js'
import type { Order } from './worker.js'

const sandboxId = z.custom<SandboxId>((value) => isId('sb', value), 'must be a sandbox id')
const execId = z.custom<ExecId>((value) => isId('ex', value), 'must be an exec id')
const toSandbox = { tenant: z.string().min(1), sandboxId, epoch: z.int().min(1) }
/** Checked by the scheduler when it was accepted; here only that it is an object. */
const spec = <T>() => z.custom<T>((value) => typeof value === 'object' && value !== null, 'must be an object')

type Spec<K extends 'create' | 'exec'> = Extract<Order, { kind: K }>['spec']

const order = z.discriminatedUnion('kind', [
  z.object({
    kind: z.literal('create'),
    spec: spec<Spec<'create'>>(),
    secrets: z.string().nullable(),
    ...toSandbox,
  }),
  z.object({ kind: z.literal('stop'), reason: z.string(), ...toSandbox }),
  z.object({
    kind: z.literal('exec'),
    execId,
    spec: spec<Spec<'exec'>>(),
    secrets: z.string().nullable(),
    startByMs: z.number().min(0),
    ...toSandbox,
  }),
  z.object({ kind: z.literal('cancel-exec'), execId, ...toSandbox }),
  z.object({
    kind: z.literal('signal'),
    execId,
    signal: z.int().min(1).max(64),
    signalId: z.string().min(1),
    ...toSandbox,
  }),
])

/** @throws Rejected INVALID_ARGUMENT */
export const parseOrder = (body: unknown): Order => parseBody(order, body)
