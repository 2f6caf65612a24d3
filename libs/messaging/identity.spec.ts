import { expect, test } from '@jest/globals'
import { createSealKey, createWorkerIdentity, openSealed, publicKeyOf, sealTo } from './identity.js'

const secret = new TextEncoder().encode('TOKEN=hunter2')

test('what is sealed to a key is opened by its holder', () => {
  const key = createSealKey()
  const sealed = sealTo(key.publicKey, secret)
  expect(sealed).not.toContain('hunter2')
  expect(openSealed(key.seed, sealed)).toEqual(secret)
})

test('nobody else opens it, nor anyone when it was altered', () => {
  const key = createSealKey()
  const sealed = sealTo(key.publicKey, secret)
  const [sender, box] = sealed.split('.')
  const bytes = Buffer.from(box!, 'base64')
  bytes[bytes.length - 1]! ^= 1
  const altered = `${sender}.${bytes.toString('base64')}`
  expect(() => openSealed(createSealKey().seed, sealed)).toThrow('cannot be opened')
  for (const text of [altered, '', '.', sender!, `${createSealKey().publicKey}.${box}`]) {
    expect(() => openSealed(key.seed, text)).toThrow('cannot be opened')
  }
})

test('the same secret looks different each time', () => {
  const { publicKey } = createSealKey()
  expect(sealTo(publicKey, secret)).not.toBe(sealTo(publicKey, secret))
})

test('a key of another kind is refused, and no seed is told', () => {
  const identity = createWorkerIdentity()
  expect(publicKeyOf(identity.seed)).toBe(identity.publicKey)
  expect(() => sealTo(identity.publicKey, secret)).toThrow('curve key')
  expect(() => publicKeyOf('SUSECRET')).toThrow(/^(?!.*SUSECRET)/)
})
