/** What `doctor` finds from the client's own host: each fault is a real one, of a file, a server or the way to it. */

import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { createServer as createPlainServer, type RequestListener, type Server } from 'node:http'
import { createServer } from 'node:https'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, afterEach, beforeEach, expect, test } from '@jest/globals'
import { createAuthority, type Pair } from '../../../libs/tls/testing.js'
import { type Check, findChecks } from './doctor.js'

const authority = createAuthority()
afterAll(() => authority.close())
const environment = { ...process.env }
let home: string
let server: Server | null = null
beforeEach(() => {
  home = mkdtempSync(join(tmpdir(), 'sandtrail-doctor-'))
  process.env = { ...environment, XDG_CONFIG_HOME: home, SANDTRAIL_TOKEN: 'st_unknown' }
})
afterEach(() => {
  process.env = environment
  server?.closeAllConnections()
  server?.close()
  rmSync(home, { recursive: true })
})

/** A gateway as far as it is asked here: it lives, and does not know the token. `skewMs`: of its clock. */
async function serve({ skewMs = 0, pair }: { skewMs?: number; pair?: Pair } = {}): Promise<number> {
  const answer: RequestListener = ({ url }, response) => {
    response.setHeader('Date', new Date(Date.now() + skewMs).toUTCString())
    if (url === '/livez') return void response.end('{"ok":true}')
    const error = {
      code: 'UNAUTHENTICATED',
      message: 'the token is unknown',
      hint: 'make one',
      retryable: false,
    }
    response.writeHead(401).end(JSON.stringify({ error }))
  }
  server =
    pair === undefined
      ? createPlainServer(answer)
      : createServer({ cert: readFileSync(pair.certFile), key: readFileSync(pair.keyFile) }, answer)
  await new Promise<void>((resolve) => server?.listen(0, '127.0.0.1', resolve))
  return (server.address() as AddressInfo).port
}

async function ask(env: Record<string, string>): Promise<Record<string, Check>> {
  Object.assign(process.env, env)
  const checks = await findChecks()
  for (const { ok, hint } of checks) expect(hint === null).toBe(ok)
  return Object.fromEntries(checks.map((check) => [check.name, check]))
}

const wrong = (detail: RegExp, hint: RegExp) =>
  expect.objectContaining({
    ok: false,
    detail: expect.stringMatching(detail),
    hint: expect.stringMatching(hint),
  })

test('a host and a way on which all is well, and a token that is not', async () => {
  const found = await ask({ SANDTRAIL_URL: `http://127.0.0.1:${await serve()}` })
  const { token, ...others } = found
  expect(Object.keys(others).sort()).toEqual(['clock', 'encryption', 'server', 'tar'])
  expect(Object.values(others).every(({ ok }) => ok)).toBe(true)
  expect(token).toEqual(wrong(/token is unknown/, /make one/))
})

test('a host without tar', async () => {
  const { tar } = await ask({ PATH: home, SANDTRAIL_URL: `http://127.0.0.1:${await serve()}` })
  expect(tar).toEqual(wrong(/not found/, /install it/))
})

test('nobody at the address, no token, and settings that others can read', async () => {
  const port = await serve()
  const found = await ask({ SANDTRAIL_URL: 'http://127.0.0.1:9', SANDTRAIL_TOKEN: '' })
  expect(found.server).toEqual(wrong(/cannot reach/, /whether the server runs/))
  const { token } = await ask({ SANDTRAIL_URL: `http://127.0.0.1:${port}`, SANDTRAIL_TOKEN: '' })
  expect(token).toEqual(wrong(/there is none/, /sandtrail login/))
  mkdirSync(join(home, 'sandtrail'))
  const file = join(home, 'sandtrail', 'config.json')
  writeFileSync(file, `{"url":"http://127.0.0.1:${port}","token":"t"}`, { mode: 0o644 })
  const { settings } = await ask({ SANDTRAIL_URL: '', SANDTRAIL_TOKEN: '' })
  expect(settings).toEqual(wrong(/can be read by others/, /chmod 600/))
})

test('clocks that do not agree', async () => {
  const { clock } = await ask({ SANDTRAIL_URL: `http://127.0.0.1:${await serve({ skewMs: 3_600_000 })}` })
  expect(clock).toEqual(wrong(/is -3\d{3} s ahead of the server's/, /NTP/))
})

test('plaintext to what is not this host', async () => {
  // The kernel takes this address for loopback; by its looks it is any.
  const { encryption } = await ask({ SANDTRAIL_URL: `http://0.0.0.0:${await serve()}` })
  expect(encryption).toEqual(wrong(/reads the token/, /https/))
})

test('a certificate that is well, one that ends soon, has ended, is of a stranger, and a file that holds none', async () => {
  const over = async (days: number) => {
    server?.closeAllConnections()
    server?.close()
    const port = await serve({ pair: authority.issue('server', { days }) })
    return ask({ SANDTRAIL_URL: `https://127.0.0.1:${port}`, SANDTRAIL_CA_FILE: authority.caFile })
  }
  expect((await over(30)).encryption).toMatchObject({ ok: true, detail: expect.stringContaining('TLS') })
  expect((await over(5)).encryption).toEqual(wrong(/valid until/, /renewed/))
  expect((await over(-1)).server).toEqual(wrong(/has expired/, /renew/))
  expect((await ask({ SANDTRAIL_CA_FILE: '' })).server).toEqual(
    wrong(/has expired|authority/, /renew|SANDTRAIL_CA_FILE/),
  )
  expect((await ask({ SANDTRAIL_CA_FILE: join(home, 'absent') })).server).toEqual(
    wrong(/cannot read the file/, /SANDTRAIL_CA_FILE/),
  )
})
