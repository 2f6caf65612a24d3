import { expect, test } from '@jest/globals'
import fc from 'fast-check'
import {
  exceededQuota,
  fullBucket,
  imageScopes,
  PLATFORM_TENANT,
  TENANT_QUOTA_DEFAULT,
  takeToken,
} from './index.js'

const unused = { sandboxes: 0, execs: 0, cpuMillis: 0, memoryBytes: 0, diskBytes: 0 }
const unlimited = { sandboxes: null, execs: null, cpuMillis: null, memoryBytes: null, diskBytes: null }

test('the quota that is in the way is named with its limit, what is used and what was asked', () => {
  const quota = { ...unlimited, sandboxes: 5, memoryBytes: 100 }
  const used = { ...unused, sandboxes: 4, memoryBytes: 60 }
  expect(exceededQuota(quota, used, { sandboxes: 1, memoryBytes: 40 })).toBeNull()
  expect(exceededQuota(quota, used, { sandboxes: 1, memoryBytes: 41 })).toEqual({
    quota: 'memoryBytes',
    limit: 100,
    used: 60,
    asked: 41,
  })
})

test('a quota that was lowered below what is used is in the way only of what asks for more of it', () => {
  const used = { ...unused, memoryBytes: 200 }
  expect(exceededQuota({ ...unlimited, memoryBytes: 100 }, used, { execs: 1 })).toBeNull()
  expect(exceededQuota({ ...unlimited, memoryBytes: 100 }, used, { memoryBytes: 1 })).not.toBeNull()
})

test('a new tenant has quotas that a single host does not reach', () => {
  expect(
    exceededQuota(TENANT_QUOTA_DEFAULT, { ...unused, sandboxes: 200, execs: 2_000 }, { sandboxes: 1 }),
  ).toBeNull()
})

test('in any span no more is taken than the burst and what the rate gives, and the wait that is told suffices', () => {
  fc.assert(
    fc.property(
      fc.integer({ min: 1, max: 1_000 }),
      fc.integer({ min: 1, max: 100 }),
      fc.array(fc.integer({ min: 0, max: 2_000 }), { minLength: 1, maxLength: 200 }),
      (perSecond, burst, pauses) => {
        let now = 0
        let taken = 0
        let bucket = fullBucket(burst, now)
        for (const pause of pauses) {
          now += pause
          const result = takeToken(bucket, { perSecond, burst }, now)
          bucket = result.bucket
          if (result.retryAfterMs === null) taken += 1
          else {
            expect(takeToken(bucket, { perSecond, burst }, now + result.retryAfterMs).retryAfterMs).toBeNull()
          }
          expect(taken).toBeLessThanOrEqual(burst + (now * perSecond) / 1000 + 1e-6)
        }
      },
    ),
  )
})

test('a clock that goes back gives nothing twice', () => {
  const rate = { perSecond: 1, burst: 1 }
  const { bucket } = takeToken(fullBucket(1, 1_000), rate, 1_000)
  const back = takeToken(bucket, rate, 0)
  expect(back.retryAfterMs).toBe(1_000)
  expect(takeToken(back.bucket, rate, 1_999).retryAfterMs).not.toBeNull()
})

test('images are looked for in the tenant, then in the platform, and nowhere else', () => {
  expect(imageScopes('acme')).toEqual(['acme', PLATFORM_TENANT])
  expect(imageScopes(PLATFORM_TENANT)).toEqual([PLATFORM_TENANT])
})
