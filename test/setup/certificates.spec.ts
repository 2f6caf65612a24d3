/** Certificates that set-up makes: once, private, and renewed with the names that they had. */

import { X509Certificate } from 'node:crypto'
import { mkdtempSync, readFileSync, rmSync, statSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, expect, test } from '@jest/globals'
import { readIdentity } from '#libs/tls'
import { ensureCertificates } from '../../scripts/system/certificates.mjs'

const dir = mkdtempSync(join(tmpdir(), 'sandtrail-certificates-'))
afterAll(() => rmSync(dir, { recursive: true }))
const path = (name: string) => join(dir, name)
const read = (file: string) => readFileSync(file, 'utf8')

test('an authority and a pair for each server are made once, and made anew for a name that is missing', async () => {
  const first = await ensureCertificates(path, ['one.example.org', '10.1.2.3'])
  const authority = new X509Certificate(read(first.ca))
  for (const { cert, key } of [first.gateway, first.nats, first.postgres]) {
    readIdentity(cert, key)
    const made = new X509Certificate(read(cert))
    expect(made.verify(authority.publicKey)).toBe(true)
    for (const name of ['localhost', 'one.example.org']) expect(made.checkHost(name)).toBe(name)
    for (const address of ['127.0.0.1', '10.1.2.3']) expect(made.checkIP(address)).toBe(address)
    expect(made.checkHost('two.example.org')).toBeUndefined()
    expect(made.ca).toBe(false)
  }
  for (const secret of ['ca.key', 'gateway-tls.key', 'nats-tls.key', 'postgres-tls.key']) {
    expect([secret, statSync(path(secret)).mode & 0o777]).toEqual([secret, 0o600])
  }
  const before = [read(first.ca), read(first.gateway.cert)]
  const again = await ensureCertificates(path)
  expect([read(again.ca), read(again.gateway.cert)]).toEqual(before)

  const more = await ensureCertificates(path, ['two.example.org'])
  expect(read(more.ca)).toBe(before[0])
  const renewed = new X509Certificate(read(more.gateway.cert))
  for (const name of ['one.example.org', 'two.example.org']) expect(renewed.checkHost(name)).toBe(name)
  readIdentity(more.gateway.cert, more.gateway.key)
})
