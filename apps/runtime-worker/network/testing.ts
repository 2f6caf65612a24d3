/** A small world for tests: namespaces that play the host, the internet behind it, and what must not be reached. */

import { type ChildProcess, spawn } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { createInterface } from 'node:readline'
import { run } from '../host/command.js'
import { addNetns, deleteNetns, ipBatch, netnsPath } from './netns.js'

export const WORLD = {
  /** A public address of the host itself, and a private one. */
  hostPublic: '45.33.1.2',
  hostPrivate: '10.9.9.9',
  /** All of these are in the internet's namespace: whatever the host would forward or connect to arrives there. */
  internet: '45.79.8.8',
  resolver: '45.79.9.9',
  neighbour: '10.50.0.5',
  carrierGrade: '100.64.7.7',
  metadata: '169.254.169.254',
  port: 8080,
} as const

/** What the fake resolver answers to a query of an A record. */
export const ANSWER = '45.79.8.8'
/** A public name of a private address, as in DNS rebinding. */
export const METADATA_NAME = 'metadata.test'

export interface World {
  hostNetns: string
  /** Everything that the listeners told. */
  lines: readonly string[]
  /** `local address <- remote address` of each connection that a listener accepted at one of `addresses`, as far as told. */
  accepted(...addresses: string[]): string[]
  remove(): Promise<void>
}

/** Listens on every address of its namespace and tells of what arrives, by TCP and UDP, and of what it says. */
const LISTENER = `
const tell = (from) => (data) => console.log(from + ' said ' + JSON.stringify(String(data)))
const server = require('node:net').createServer((socket) => {
  const from = socket.localAddress + ' <- ' + socket.remoteAddress
  console.log(from)
  socket.on('error', () => {})
  socket.on('data', tell(from))
  socket.end('hello\\n')
})
const udp = require('node:dgram').createSocket('udp4')
udp.on('message', (data, { address }) => tell('udp <- ' + address)(data))
udp.bind(${WORLD.port})
server.listen(${WORLD.port}, '0.0.0.0', () => console.log('listening'))`

/** Answers every A query, over UDP and TCP, with ANSWER or, for its name, with the metadata service's address. */
const RESOLVER = `
const bytes = (name) => (name === '${METADATA_NAME}' ? '${WORLD.metadata}' : '${ANSWER}').split('.').map(Number)
const nameIn = (query) => {
  const labels = []
  for (let at = 12; query[at] > 0; at += query[at] + 1) labels.push(query.toString('latin1', at + 1, at + 1 + query[at]))
  return labels.join('.')
}
const answer = (query) => {
  const end = query.indexOf(0, 12) + 5
  const head = Buffer.from([query[0], query[1], 0x81, 0x80, 0, 1, 0, 1, 0, 0, 0, 0])
  const tail = Buffer.from([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, ...bytes(nameIn(query))])
  return Buffer.concat([head, query.subarray(12, end), tail])
}
const udp = require('node:dgram').createSocket('udp4')
udp.on('message', (query, from) => udp.send(answer(query), from.port, from.address))
const tcp = require('node:net').createServer((socket) => {
  socket.on('error', () => {})
  socket.on('data', (data) => {
    const reply = answer(data.subarray(2))
    socket.write(Buffer.concat([Buffer.from([reply.length >> 8, reply.length & 255]), reply]))
  })
})
udp.bind(53, '${WORLD.resolver}', () => tcp.listen(53, '${WORLD.resolver}', () => console.log('listening')))`

export async function makeWorld(): Promise<World> {
  const id = randomBytes(3).toString('hex')
  const [host, internet] = [`world-${id}-host`, `world-${id}-net`]
  const lines: string[] = []
  const children: ChildProcess[] = []
  await addNetns(host)
  await addNetns(internet)
  await ipBatch(null, [`link add wan netns ${host} type veth peer name lan netns ${internet}`])
  await ipBatch(host, [
    'link set lo up',
    `address add ${WORLD.hostPublic}/24 dev wan`,
    `address add ${WORLD.hostPrivate}/32 dev wan`,
    'link set wan up',
    'route add default via 45.33.1.1',
  ])
  await ipBatch(internet, [
    'link set lo up',
    'address add 45.33.1.1/24 dev lan',
    ...[WORLD.internet, WORLD.resolver, WORLD.neighbour, WORLD.carrierGrade, WORLD.metadata].map(
      (address) => `address add ${address}/32 dev lo`,
    ),
    'link set lan up',
  ])
  for (const [netns, script] of [
    [host, LISTENER],
    [internet, LISTENER],
    [internet, RESOLVER],
  ] as const) {
    children.push(await serve(netns, script, lines))
  }
  return {
    hostNetns: host,
    lines,
    accepted: (...addresses) =>
      lines.filter(
        (line) => !line.includes(' said ') && addresses.some((address) => line.startsWith(`${address} <- `)),
      ),
    async remove() {
      for (const child of children) await end(child)
      await deleteNetns(host)
      await deleteNetns(internet)
    },
  }
}

/** Starts a script in a namespace; resolves when it says that it listens. */
export async function serve(netns: string, script: string, lines: string[] = []): Promise<ChildProcess> {
  const child = spawn('nsenter', [`--net=${netnsPath(netns)}`, process.execPath, '-e', script], {
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  const reader = createInterface({ input: child.stdout! })
  reader.on('line', (line) => lines.push(line))
  await once(reader, 'line')
  return child
}

export async function end(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return
  child.kill('SIGKILL')
  await once(child, 'exit')
}

/** What a program in `netns` gets when it connects: `hello`, or why not (`ECONNREFUSED`, `TIMEOUT` after 1 s ...). */
export function connect(netns: string, address: string, port: number = WORLD.port): Promise<string> {
  return script(
    netns,
    `const socket = require('node:net').connect(${port}, '${address}')
    socket.setTimeout(1000, () => done('TIMEOUT'))
    socket.on('data', (data) => done(String(data).trim())).on('error', (error) => done(error.code))`,
  )
}

/** What a query over UDP gets: the address, or why not. */
export function resolve(netns: string, server: string, name = 'example.test'): Promise<string> {
  return script(
    netns,
    `const resolver = new (require('node:dns').Resolver)({ timeout: 1000, tries: 1 })
    resolver.setServers(['${server}'])
    resolver.resolve4('${name}', (error, found) => done(error ? error.code : found.join()))`,
  )
}

/** The same over TCP. */
export function resolveOverTcp(netns: string, server: string): Promise<string> {
  const query = '000701000001000000000000076578616d706c65047465737400' + '00010001'
  return script(
    netns,
    `const query = Buffer.from('${query}', 'hex')
    const socket = require('node:net').connect(53, '${server}', () => {
      socket.write(Buffer.concat([Buffer.from([0, query.length]), query]))
    })
    socket.setTimeout(1000, () => done('TIMEOUT'))
    socket.on('data', (data) => done(data.subarray(-4).join('.'))).on('error', (error) => done(error.code))`,
  )
}

async function script(netns: string, body: string): Promise<string> {
  const program = `const done = (text) => { console.log(text); process.exit() };${body}`
  const said = await run('nsenter', [`--net=${netnsPath(netns)}`, process.execPath, '-e', program], {
    timeoutMs: 10_000,
  })
  return said.trim()
}
