import { expect, test } from '@jest/globals'
import { indexOf, LINKS_MAX, sandboxLink } from './addressing.js'

test('every link has a network of four addresses of its own', () => {
  expect(sandboxLink('abcdef', 0)).toMatchObject({ gateway: '10.200.0.1', address: '10.200.0.2', prefix: 30 })
  expect(sandboxLink('abcdef', 63)).toMatchObject({ gateway: '10.200.0.253', address: '10.200.0.254' })
  expect(sandboxLink('abcdef', 64)).toMatchObject({ gateway: '10.200.1.1', address: '10.200.1.2' })
  const addresses = new Set(Array.from({ length: LINKS_MAX }, (_, i) => sandboxLink('abcdef', i).address))
  expect(addresses.size).toBe(LINKS_MAX)
  expect(sandboxLink('abcdef', LINKS_MAX - 1).address).toBe('10.200.255.254')
})

test('the name of a link fits into what the kernel allows', () => {
  expect(sandboxLink('abcdefabcdef', LINKS_MAX - 1).link.length).toBeLessThanOrEqual(15)
})

test('a netns is known by its name, and only one of this instance', () => {
  expect(indexOf('abcdef', sandboxLink('abcdef', 17).netns)).toBe(17)
  for (const name of ['st-abcdef', 'st-abcdef-', 'st-abcdef-x', 'st-abcde1-17', 'st-abcdef-17-1', 'other']) {
    expect(indexOf('abcdef', name)).toBeNull()
  }
})
