/** Every schema of a wire, by itself: any bytes are taken or refused by a code, soon, and change nothing else. */

import { expect, test } from '@jest/globals'
import fc from 'fast-check'
import { COMMANDS, parseBody, parseHeartbeat, parseOrder, parseReport } from '#libs/contract'
import { Rejected } from '#libs/domain'
import { decodeBody } from '#libs/messaging'
import { bodyOf, bytesOf } from './json.js'
import { fitting } from './schema.js'

const RUNS = Number(process.env.FUZZ_RUNS ?? 6_000)

test('any bytes on any schema are taken or refused by a code', () => {
  const prototype = Object.getOwnPropertyNames(Object.prototype).sort()
  const cases = fc
    .constantFrom(...Object.values(COMMANDS))
    .chain((schema) => fc.tuple(fc.constant(schema), bodyOf(fitting(schema))))
  let taken = 0
  let slowestMs = 0
  fc.assert(
    fc.property(cases, ([schema, body]) => {
      const bytes = bytesOf(body)
      const startedMs = performance.now()
      const checks = [(value: object) => parseBody(schema, value), parseOrder, parseReport, parseHeartbeat]
      for (const check of checks) {
        try {
          check(decodeBody(bytes))
          taken += 1
        } catch (error) {
          expect(error).toBeInstanceOf(Rejected)
          const { code, message } = error as Rejected
          expect(code).toMatch(/^(INVALID_ARGUMENT|PAYLOAD_TOO_LARGE)$/)
          expect(message.length).toBeLessThan(1_000)
        }
      }
      slowestMs = Math.max(slowestMs, performance.now() - startedMs)
    }),
    { numRuns: RUNS },
  )
  expect(Object.getOwnPropertyNames(Object.prototype).sort()).toEqual(prototype)
  expect(taken).toBeGreaterThan(RUNS / 50)
  console.info(`${RUNS} bodies, ${taken} taken, the slowest ${slowestMs.toFixed(1)} ms`)
}, 120_000)
