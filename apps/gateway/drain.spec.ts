import { createServer, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { afterEach, beforeEach, expect, test } from '@jest/globals'
import { Drain } from './drain.js'

let drain: Drain
let server: Server
let url: string
let answer: PromiseWithResolvers<void>
beforeEach(async () => {
  drain = new Drain()
  answer = Promise.withResolvers()
  server = createServer((request, response) => {
    drain.track(request as never, response as never, () => {
      if (request.url === '/follow') response.write('so far')
      else void answer.promise.then(() => response.end('done'))
    })
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
})
afterEach(() => server.closeAllConnections())

test('what is in hand is answered, the connection is said to close, and nothing new is taken', async () => {
  const asked = fetch(`${url}/slow`)
  await new Promise((resolve) => server.once('request', resolve))
  let isDrained = false
  const draining = drain.drain(server).then(() => {
    isDrained = true
  })
  await expect(fetch(`${url}/new`)).rejects.toThrow()
  expect(isDrained).toBe(false)
  answer.resolve()
  const response = await asked
  expect(response.headers.get('connection')).toBe('close')
  expect(await response.text()).toBe('done')
  await draining
})

test('a follower, whose answer has begun and does not end, is not waited for', async () => {
  const response = await fetch(`${url}/follow`)
  expect(response.status).toBe(200)
  await drain.drain(server)
})
