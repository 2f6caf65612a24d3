import { once } from 'node:events'
import { chmodSync, copyFileSync, readFileSync, writeFileSync } from 'node:fs'
import { createServer as createPlainServer, request as requestHttp } from 'node:http'
import { Agent, createServer, request, type Server } from 'node:https'
import { type AddressInfo, connect } from 'node:net'
import { join } from 'node:path'
import { afterAll, afterEach, expect, test } from '@jest/globals'
import { readAuthorities, readIdentity } from './certificate.js'
import { isLoopback, peerExpiry, refusePlaintext, ServerCertificate, tlsTrouble } from './index.js'
import { createAuthority, type Pair } from './testing.js'

const authority = createAuthority()
const ca = readFileSync(authority.caFile, 'utf8')
afterAll(() => authority.close())
const servers: Server[] = []
afterEach(() => {
  for (const server of servers.splice(0)) {
    server.close()
    server.closeAllConnections()
  }
})

async function serve({ certFile, keyFile }: Pair): Promise<{ server: Server; port: number }> {
  const server = createServer({ cert: readFileSync(certFile), key: readFileSync(keyFile) }, (_, answer) =>
    answer.end('secret'),
  )
  servers.push(server)
  refusePlaintext(server, { error: { code: 'INVALID_ARGUMENT' } })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  return { server, port: (server.address() as AddressInfo).port }
}

function get(url: string, authorities = ca): Promise<{ status: number; body: string }> {
  return new Promise((resolve, reject) => {
    const options = { ca: authorities, agent: url.startsWith('https') ? new Agent() : undefined }
    const asked = (url.startsWith('https') ? request : requestHttp)(url, options, (answer) => {
      let body = ''
      answer.setEncoding('utf8').on('data', (text) => {
        body += text
      })
      answer.on('end', () => resolve({ status: answer.statusCode ?? 0, body }))
    })
    asked.on('error', reject)
    asked.end()
  })
}

const causeOf = (asking: Promise<unknown>) =>
  asking.then(
    () => null,
    (error) => tlsTrouble(error, 'it'),
  )

test('a pair that is whole is read; each fault of one is told with what to do', () => {
  const good = authority.issue('good')
  expect(readIdentity(good.certFile, good.keyFile).expiresAt.getTime()).toBeGreaterThan(Date.now())
  const read = (cert: string, key: string) => () => readIdentity(cert, key)
  expect(read(join(authority.dir, 'absent.pem'), good.keyFile)).toThrow('cannot read the file')
  expect(read(good.certFile, authority.issue('other').keyFile)).toThrow('is not that of the certificate')
  expect(read(good.keyFile, good.keyFile)).toThrow('holds no certificate as PEM')
  expect(read(good.certFile, good.certFile)).toThrow('chmod 600')
  const expired = authority.issue('expired', { days: -1 })
  expect(read(expired.certFile, expired.keyFile)).toThrow(/has expired on \d{4}-\d\d-\d\d: renew it/)
  const nonsense = join(authority.dir, 'nonsense.key')
  writeFileSync(nonsense, 'hunter2', { mode: 0o600 })
  expect(read(good.certFile, nonsense)).toThrow('holds no private key as PEM')
  expect(read(good.certFile, nonsense)).not.toThrow('hunter2')
  chmodSync(good.keyFile, 0o640)
  expect(read(good.certFile, good.keyFile)).toThrow('others can read')
  expect(() => readAuthorities(expired.certFile)).toThrow('has expired')
  expect(readAuthorities(authority.caFile)).toBe(ca)
})

test('a peer is refused for its authority, its name and its date, each in words', async () => {
  const good = await serve(authority.issue('one'))
  expect(await get(`https://127.0.0.1:${good.port}`)).toEqual({ status: 200, body: 'secret' })
  const other = createAuthority()
  const foreign = await causeOf(get(`https://127.0.0.1:${good.port}`, readFileSync(other.caFile, 'utf8')))
  other.close()
  expect(foreign).toMatchObject({ code: 'TLS_FAILED', message: expect.stringContaining('authority') })
  const elsewhere = await serve(authority.issue('two', { names: ['elsewhere.example'] }))
  expect(await causeOf(get(`https://127.0.0.1:${elsewhere.port}`))).toMatchObject({
    message: expect.stringContaining('another name'),
  })
  const expired = await serve(authority.issue('three', { days: -1 }))
  expect(await causeOf(get(`https://127.0.0.1:${expired.port}`))).toMatchObject({
    message: expect.stringContaining('expired'),
  })
  // Who only asks for the date is told it whatever it is.
  expect(+(await peerExpiry({ protocol: 'https', host: '127.0.0.1', port: expired.port }))).toBeLessThan(
    Date.now(),
  )
})

test('plain HTTP on the TLS port is answered in words, and a TLS client of a plain port hears what is wrong', async () => {
  const { port } = await serve(authority.issue('four'))
  const refused = await get(`http://127.0.0.1:${port}`)
  expect(refused).toEqual({ status: 400, body: '{"error":{"code":"INVALID_ARGUMENT"}}' })
  // One that says nothing and goes does not disturb the others.
  connect(port, '127.0.0.1').end()
  expect((await get(`https://localhost:${port}`)).status).toBe(200)

  const plain = createPlainServer((_, answer) => answer.end()).listen(0, '127.0.0.1')
  await once(plain, 'listening')
  const asking = causeOf(get(`https://127.0.0.1:${(plain.address() as AddressInfo).port}`))
  expect(await asking).toMatchObject({
    code: 'TLS_FAILED',
    message: expect.stringContaining('speaks no TLS'),
  })
  plain.close()
})

test('a renewed certificate is shown to who connects from then on; half a pair, or a bad one, changes nothing', async () => {
  const pair = authority.issue('renewed', { days: 1 })
  const { server, port } = await serve(pair)
  const told: object[] = []
  const certificate = new ServerCertificate(pair, readIdentity(pair.certFile, pair.keyFile), (change) =>
    told.push(change),
  )
  certificate.start(server)
  try {
    const before = await peerExpiry({ protocol: 'https', host: '127.0.0.1', port })
    copyFileSync(authority.issue('strange').certFile, pair.certFile)
    await until(() => certificate.fault !== null)
    expect(certificate.fault).toContain('is not that of the certificate')
    expect(await peerExpiry({ protocol: 'https', host: '127.0.0.1', port })).toEqual(before)
    authority.issue('renewed', { days: 20 })
    await until(() => certificate.fault === null)
    const after = await peerExpiry({ protocol: 'https', host: '127.0.0.1', port })
    expect(after).toEqual(certificate.expiresAt)
    expect(after.getTime() - before.getTime()).toBeGreaterThan(18 * 24 * 3_600_000)
    expect(told).toEqual([{ fault: expect.any(String) }, { expiresAt: after }])
  } finally {
    certificate.stop()
  }
}, 60_000)

test('loopback is this host alone', () => {
  for (const host of ['127.0.0.1', '127.9.9.9', '::1', '[::1]', 'localhost'])
    expect([host, isLoopback(host)]).toEqual([host, true])
  for (const host of ['0.0.0.0', '::', '10.0.0.1', '127.example.org', 'localhost.example.org', 'db', '']) {
    expect([host, isLoopback(host)]).toEqual([host, false])
  }
})

async function until(condition: () => boolean): Promise<void> {
  while (!condition()) await new Promise((resolve) => setTimeout(resolve, 50))
}
