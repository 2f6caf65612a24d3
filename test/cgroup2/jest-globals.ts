/** What the worker's tests take from `@jest/globals`, for a guest in which Jest would take longer than they do. */

import {
  after,
  afterEach as afterEachTest,
  before,
  beforeEach as beforeEachTest,
  test as testOf,
} from 'node:test'

export { expect } from 'expect'

type Work = () => unknown

/** Limits of time are those of a host, not of a guest whose machine code is interpreted: they are left out. */
export const test = (name: string, work: Work) => void testOf(name, async () => void (await work()))
export const beforeAll = (work: Work) => before(async () => void (await work()))
export const afterAll = (work: Work) => after(async () => void (await work()))
export const beforeEach = (work: Work) => beforeEachTest(async () => void (await work()))
export const afterEach = (work: Work) => afterEachTest(async () => void (await work()))
