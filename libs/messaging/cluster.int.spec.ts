/** Production's broker is a cluster of three: one may die without any service noticing more than a pause. */

import { afterAll, beforeAll, expect, test } from '@jest/globals'
import { commandHeaders } from './headers.js'
import { JetStreamServer } from './jetstream-server.js'
import { COMMANDS, EVENTS, managerOf } from './streams.js'
import { eventually, freePort, startNats, type TestNats } from './testing.js'

const NAMES = ['nats-1', 'nats-2', 'nats-3']
let servers: TestNats[] = []

beforeAll(async () => {
  const ports = await Promise.all(NAMES.map(() => freePort()))
  const routeUser = { user: 'route', password: 'route-password-for-tests' }
  servers = await Promise.all(
    NAMES.map((serverName, i) => {
      const routes = ports.filter((_, j) => j !== i).map((port) => `nats://127.0.0.1:${port}`)
      const cluster = { serverName, name: 'sandtrail', host: '127.0.0.1', port: ports[i]!, routes, routeUser }
      return startNats({ cluster })
    }),
  )
}, 30_000)

afterAll(() => Promise.all(servers.map((server) => server.close())))

test('commands flow while a server of the cluster is killed, and every stream has three copies', async () => {
  const connectTo = { servers: servers.map(({ url }) => url) }
  const messaging = await servers[0]!.connect(connectTo)
  const done = new Set<string>()
  const server = new JetStreamServer({ messaging: await servers[1]!.connect(connectTo), name: 'scheduler' })
  server.handle({ command: 'v1.*.cmd.sandbox.*', durable: 'scheduler' }, async (_, { commandId }) => {
    done.add(commandId!)
  })
  await new Promise<void>((resolve, reject) => {
    void server.listen((error) => (error ? reject(error) : resolve()))
  })
  const jsm = await managerOf(messaging)
  const copies = await Promise.all(
    [COMMANDS, EVENTS].map(async (name) => (await jsm.streams.info(name)).config),
  )
  expect(copies.map(({ num_replicas }) => num_replicas)).toEqual([3, 3])

  const send = (commandId: string) =>
    messaging
      .publishCommand(
        'v1.acme.cmd.sandbox.create',
        {},
        commandHeaders({ commandId, expiresAt: new Date(Date.now() + 60_000) }),
      )
      .catch(() => null)
  for (let n = 0; n < 20; n++) await send(`command-${n}`)
  // The one that leads COMMANDS, so that an election is needed.
  const leader = (await jsm.streams.info(COMMANDS)).cluster?.leader
  await servers[NAMES.indexOf(leader!)]!.stop('SIGKILL')
  const ids = Array.from({ length: 40 }, (_, n) => `command-${n}`)
  await eventually(async () => {
    await Promise.all(ids.filter((id) => !done.has(id)).map(send))
    return ids.every((id) => done.has(id))
  }, 45_000)
  await server.close()
}, 90_000)
