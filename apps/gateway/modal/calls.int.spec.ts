/** Who may call what on the SDKs' port: every call of it, found in its own description. */

import { randomUUID } from 'node:crypto'
import { connect } from 'node:http2'
import type { DescMethod } from '@bufbuild/protobuf'
import { Code, ConnectError, createClient, type Interceptor, type Transport } from '@connectrpc/connect'
import { createGrpcTransport } from '@connectrpc/connect-node'
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals'
import { createToken, revokeToken } from '#libs/event-store'
import { startTestGateway, type TestGateway } from '../testing.js'
import { ModalClient } from './gen/client_pb.js'
import { TaskCommandRouter } from './gen/task_command_router_pb.js'
import { taskIdFor } from './ids.js'

const APP = `ap-${'0'.repeat(26)}`
/** These only hand a command on: the scheduler decides, and the isolation of its commands is tested with a whole system. */
const DECIDED = new Set(['SandboxTagsSet', 'SandboxTagsSetV2', 'SandboxSetName', 'ContainerStop'])
const JWT = /^[^.]+\.[^.]+\.[^.]+$/

let gateway: TestGateway
let ours: Headers
let theirs: Headers
let sandboxId: string
let router: { jwt: string; url: string }

type Headers = Record<string, string>

beforeAll(async () => {
  gateway = await startTestGateway()
  ours = await tokenOf('acme')
  theirs = await tokenOf('umbrella')
  const created = await control(ours).sandboxCreateV2({ appId: APP, definition: { entrypointArgs: ['sh'] } })
  sandboxId = created.sandboxId
  router = created.commandRouterAccess!
}, 60_000)
afterAll(() => gateway?.stop())

async function tokenOf(tenant: string): Promise<Headers> {
  const { id, secret } = await createToken(gateway.db.pool, { tenant, name: 'sdk' })
  return { 'x-modal-token-id': id, 'x-modal-token-secret': secret }
}

function transport(headers: Headers): Transport {
  const add: Interceptor = (next) => (request) => {
    for (const [name, value] of Object.entries(headers)) request.header.set(name, value)
    return next(request)
  }
  return createGrpcTransport({ baseUrl: `http://127.0.0.1:${gateway.modalPort}`, interceptors: [add] })
}

const control = (headers: Headers) => createClient(ModalClient, transport(headers))
const routerWith = (jwt: string) =>
  createClient(TaskCommandRouter, transport({ authorization: `Bearer ${jwt}` }))

/** Calls any method with this message, to its first answer. Resolves with the code of its error, or null. */
async function codeOf(through: Transport, method: DescMethod, message: object): Promise<Code | null> {
  try {
    if (method.methodKind === 'unary') {
      await through.unary(method as never, undefined, 10_000, undefined, message as never)
    } else {
      const messages = (async function* () {
        yield message as never
      })()
      const answer = await through.stream(method as never, undefined, 10_000, undefined, messages)
      for await (const _ of answer.message) break
    }
    return null
  } catch (error) {
    return ConnectError.from(error).code
  }
}

/** Names our sandbox in whatever field of the call takes one; null when none does. */
function aboutOurs(method: DescMethod): object | null {
  const taskId = taskIdFor(2, sandboxId)
  const names = new Set(method.input.fields.map(({ localName }) => localName))
  if (names.has('start'))
    return { payload: { case: 'start', value: { taskId, execId: randomUUID(), offset: 0n } } }
  if (method.name === 'SandboxGetCommandRouterAccess')
    return { target: { case: 'sandboxId', value: sandboxId } }
  if (names.has('sandboxId')) return { sandboxId, ...(names.has('name') ? { name: 'a-name' } : {}) }
  if (names.has('taskId')) return { taskId, ...(names.has('execId') ? { execId: randomUUID() } : {}) }
  return null
}

describe.each(ModalClient.methods)('$name', (method) => {
  test('answers nobody without a valid token', async () => {
    for (const headers of [{}, { ...ours, 'x-modal-token-secret': `as-${'x'.repeat(32)}` }]) {
      expect(await codeOf(transport(headers), method, {})).toBe(Code.Unauthenticated)
    }
  })

  test("knows nothing of another tenant's sandbox", async () => {
    const message = aboutOurs(method)
    if (message === null || DECIDED.has(method.name)) return
    expect(await codeOf(transport(theirs), method, message)).toBe(Code.NotFound)
  })
})

describe.each(TaskCommandRouter.methods)('$name', (method) => {
  test('answers nobody without a valid token', async () => {
    for (const jwt of ['', 'x', `${router.jwt.slice(0, -8)}AAAAAAAA`]) {
      const through = transport({ authorization: `Bearer ${jwt}` })
      expect(await codeOf(through, method, aboutOurs(method)!)).toBe(Code.Unauthenticated)
    }
  })

  test('takes a token for its own sandbox alone', async () => {
    const other = await control(ours).sandboxCreateV2({ appId: APP, definition: { entrypointArgs: ['sh'] } })
    const through = transport({ authorization: `Bearer ${other.commandRouterAccess!.jwt}` })
    expect(await codeOf(through, method, aboutOurs(method)!)).toBe(Code.NotFound)
  })
})

test('a router token ends with the API token that it was made for', async () => {
  const headers = await tokenOf('acme')
  const { commandRouterAccess } = await control(headers).sandboxCreateV2({
    appId: APP,
    definition: { entrypointArgs: ['sh'] },
  })
  await revokeToken(gateway.db.pool, 'acme', headers['x-modal-token-id']!)
  await expect(routerWith(commandRouterAccess!.jwt).taskExecPoll({})).rejects.toMatchObject({
    code: Code.Unauthenticated,
  })
})

test('a create that is sent again is the same create', async () => {
  const create = () =>
    control({ ...ours, 'x-idempotency-key': 'one-and-the-same' }).sandboxCreateV2({
      appId: APP,
      definition: { entrypointArgs: ['sh'] },
    })
  expect((await create()).sandboxId).toBe((await create()).sandboxId)
})

test("the SDKs' own token has three parts, a whole number as its end, and is plain base64", async () => {
  const { token } = await control(ours).authTokenGet({})
  expect(token).toMatch(JWT)
  const payload = token.split('.')[1]!
  expect(payload).not.toMatch(/[-_]/)
  expect(JSON.parse(Buffer.from(payload, 'base64').toString()).exp % 1).toBe(0)
})

test('a call that is not served says why', async () => {
  const session = connect(`http://127.0.0.1:${gateway.modalPort}`)
  const request = session.request({
    ':method': 'POST',
    ':path': '/modal.client.ModalClient/VolumeListFiles2',
  })
  const headers = await new Promise<Record<string, unknown>>((resolve) => request.once('response', resolve))
  session.destroy()
  expect(headers['grpc-status']).toBe('12')
  expect(headers['grpc-message']).toMatch(/^VolumeListFiles2 is not served: volumes are mounted/)
})

test('the address of the command router is the one that the client has called, by the scheme that it dials', async () => {
  const access = (clientType: string) =>
    control({ ...ours, 'x-modal-client-type': clientType }).sandboxGetCommandRouterAccess({
      target: { case: 'sandboxId', value: sandboxId },
    })
  expect((await access('1')).url).toBe(`http://127.0.0.1:${gateway.modalPort}`)
  expect((await access('8')).url).toBe(`https://127.0.0.1:${gateway.modalPort}`)
})
