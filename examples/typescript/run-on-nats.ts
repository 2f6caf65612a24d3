/**
 * Runs a program in a sandbox with nothing but a NATS client, both ways: `req.` (asked) and `cmd.` (queued).
 * Needs the environment of `.sandtrail/env`: NATS_URL, NATS_USER, NATS_PASSWORD, NATS_CA with TLS.
 */

import { randomUUID } from 'node:crypto'
import { setTimeout as pause } from 'node:timers/promises'
import { connect, headers, type NatsConnection, type Subscription } from '@nats-io/transport-node'

interface Reply {
  sandboxId?: string
  execId?: string
  dataBase64?: string
  end?: boolean
  error?: { code: string; message: string }
}
interface SandboxEvent {
  position: number
  stream: string
  type: string
}
type Send = (nc: NatsConnection, subject: string, body: object) => Promise<Reply>

const TERMINAL = ['SandboxFinished', 'SandboxTerminated', 'SandboxTimedOut', 'SandboxFailed', 'SandboxLost']
const PATIENCE_MS = 60_000
const SENDS_MAX = 6

/** The id makes a re-send harmless: the same id and body have one effect, whatever happened to the first. */
function commandHeaders(commandId: string) {
  const all = headers()
  all.set('Sandtrail-Command-Id', commandId)
  all.set('Sandtrail-Expires-At', new Date(Date.now() + 600_000).toISOString())
  return all
}

function unwrap(reply: Reply): Reply {
  if (reply.error) throw new Error(`${reply.error.code}: ${reply.error.message}`)
  return reply
}

/** A request: the answer says that the command is committed, or why not. */
const ask: Send = async (nc, subject, body) => {
  const options = { timeout: PATIENCE_MS, headers: commandHeaders(randomUUID()) }
  return unwrap((await nc.request(`req.${subject}`, JSON.stringify(body), options)).json<Reply>())
}

/** A queued command: a PubAck means queued, the outcome comes on `out.<commandId>`. Sent again until it is seen. */
const queue: Send = async (nc, subject, body) => {
  const commandId = randomUUID()
  const outcome = nc.subscribe(`out.${commandId}`, { max: 1 })
  const heard = (async () => {
    for await (const message of outcome) return message.json<Reply>()
    return undefined
  })()
  for (let sends = 1; sends <= SENDS_MAX; sends++) {
    await nc.request(`cmd.${subject}`, JSON.stringify(body), {
      timeout: 5_000,
      headers: commandHeaders(commandId),
    })
    const reply = await Promise.race([heard, pause(10_000, undefined, { ref: false })])
    if (reply) return unwrap(reply)
  }
  throw new Error(`no outcome of ${subject}`)
}

/** Output is read in pieces, by offset; bulk goes over HTTP. */
async function readOutput(nc: NatsConnection, execId: string): Promise<string> {
  let text = Buffer.alloc(0)
  for (;;) {
    const body = JSON.stringify({ execId, stream: 'stdout', offset: text.length })
    const piece = unwrap((await nc.request('req.exec.output', body, { timeout: PATIENCE_MS })).json<Reply>())
    text = Buffer.concat([text, Buffer.from(piece.dataBase64 ?? '', 'base64')])
    if (piece.end) return text.toString()
  }
}

/** Prints the sandbox's events, in order, until it has ended. */
async function follow(events: Subscription, sandboxId: string): Promise<void> {
  for await (const message of events) {
    const { position, stream, type } = message.json<SandboxEvent>()
    if (stream !== sandboxId) continue
    console.log(`  ${String(position).padStart(6)}  ${type}`)
    if (TERMINAL.includes(type)) return
  }
}

/** One sandbox, from create to its terminal event. */
async function life(nc: NatsConnection, send: Send): Promise<void> {
  const events = nc.subscribe('evt.sandbox.>')
  const { sandboxId } = await send(nc, 'sandbox.create', {
    timeoutMs: 60_000,
    tags: { example: 'typescript' },
  })
  const { execId } = await send(nc, 'sandbox.exec', {
    sandboxId,
    argv: ['python3', '-c', 'import sys; print(sum(map(int, sys.stdin)))'],
    stdin: 'inline',
    stdinBase64: Buffer.from('20\n22\n').toString('base64'),
  })
  const wait = JSON.stringify({ execId, timeoutMs: 30_000 })
  unwrap((await nc.request('req.exec.wait', wait, { timeout: PATIENCE_MS })).json<Reply>())
  console.log(`${sandboxId} says ${(await readOutput(nc, execId!)).trim()}`)
  await send(nc, 'sandbox.terminate', { sandboxId })
  await follow(events, sandboxId!)
}

const user = process.env.NATS_USER!
const nc = await connect({
  servers: process.env.NATS_URL!,
  user,
  pass: process.env.NATS_PASSWORD!,
  // Of a system with TLS: whose word counts for the broker's certificate.
  ...(process.env.NATS_CA ? { tls: { caFile: process.env.NATS_CA } } : {}),
  // Replies come to an inbox that only this user may read.
  inboxPrefix: `_INBOX.${user}`,
})
console.log('asked (req.)')
await life(nc, ask)
console.log('queued (cmd.)')
await life(nc, queue)
await nc.drain()
