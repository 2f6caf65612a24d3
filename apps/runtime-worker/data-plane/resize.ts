/** POST …/resize: the window of an exec's terminal. */

import type { IncomingMessage } from 'node:http'
import { z } from 'zod'
import { Rejected } from '#libs/domain'
import type { ExecKey } from '../sandboxes/journal.js'
import type { Sandbox } from '../sandboxes/sandbox.js'
import { LatestSize } from './latest-size.js'

const BODY_BYTES_MAX = 1_024
const size = z.strictObject({ rows: z.int().min(1).max(65_535), cols: z.int().min(1).max(65_535) })

/** @throws Rejected INVALID_ARGUMENT, PAYLOAD_TOO_LARGE, EXEC_NOT_FOUND, EXEC_ENDED */
export async function resize(request: IncomingMessage, sandbox: Sandbox, execId: ExecKey): Promise<void> {
  const wanted = parseSize(await readBody(request))
  const { agent } = await sandbox.execs.started(execId)
  await sizesOf(agent).set(execId, wanted)
}

type Agent = Awaited<ReturnType<Sandbox['execs']['started']>>['agent']
const sizes = new WeakMap<Agent, LatestSize<string>>()

function sizesOf(agent: Agent): LatestSize<string> {
  let known = sizes.get(agent)
  if (known === undefined) {
    known = new LatestSize((execId, size) => agent.resize(execId, size))
    sizes.set(agent, known)
  }
  return known
}

async function readBody(request: IncomingMessage): Promise<string> {
  let body = ''
  for await (const piece of request) {
    body += piece
    if (body.length > BODY_BYTES_MAX)
      throw new Rejected('PAYLOAD_TOO_LARGE', 'a window size is a small object')
  }
  return body
}

function parseSize(body: string): z.output<typeof size> {
  let value: unknown
  try {
    value = JSON.parse(body)
  } catch {
    throw new Rejected('INVALID_ARGUMENT', 'the body is not JSON')
  }
  const parsed = size.safeParse(value)
  if (parsed.success) return parsed.data
  throw new Rejected('INVALID_ARGUMENT', 'rows and cols must be whole numbers from 1 to 65535')
}
