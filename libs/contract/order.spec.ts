import { expect, test } from '@jest/globals'
import { parseOrder } from './order.js'

const to = { tenant: 'acme', sandboxId: 'sb-01JTESTTESTTESTTESTTESTTE0', epoch: 1 }

test('an order is taken as it is', () => {
  const order = { kind: 'stop', reason: 'terminate', ...to }
  expect(parseOrder(order)).toEqual(order)
})

for (const [what, order] of Object.entries({
  'no order': null,
  'an unknown kind': { kind: 'format-disk', ...to },
  'a path as id': { kind: 'stop', reason: '', ...to, sandboxId: '../..' },
  'epoch 0': { kind: 'stop', reason: '', ...to, epoch: 0 },
  'signal 65': { kind: 'signal', execId: 'ex-01JTESTTESTTESTTESTTESTTE0', signal: 65, signalId: 'x', ...to },
})) {
  test(`${what} is refused`, () => {
    expect(() => parseOrder(order)).toThrow(expect.objectContaining({ code: 'INVALID_ARGUMENT' }))
  })
}

test('the refusal does not repeat a secret', () => {
  const order = { kind: 'create', spec: 'hunter2', secrets: { env: 'hunter2' }, ...to }
  expect(() => parseOrder(order)).toThrow(
    expect.objectContaining({ message: expect.not.stringContaining('hunter2') }),
  )
})
