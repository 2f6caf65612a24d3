import { expect, test } from '@jest/globals'
import { DATA_PLANE } from '#libs/contract'
import { parseRoute } from './route.js'

const SANDBOX = 'sb-01JTESTTESTTESTTESTTESTTE0'
const EXEC = 'ex-01JTESTTESTTESTTESTTESTTE0'
const of = { sandboxId: SANDBOX, execId: EXEC }

test('the paths of the contract are understood', () => {
  const output = parseRoute('GET', `${DATA_PLANE.output(SANDBOX, EXEC, 'stderr')}?offset=7&follow=1&limit=9`)
  expect(output).toEqual({ kind: 'output', stream: 'stderr', offset: 7, follow: true, limit: 9, ...of })
  const stdin = parseRoute('PUT', `${DATA_PLANE.stdin(SANDBOX, 'main')}?offset=3&eof=1`)
  expect(stdin).toEqual({ kind: 'stdin', offset: 3, eof: true, ...of, execId: 'main' })
  expect(parseRoute('POST', DATA_PLANE.resize(SANDBOX, EXEC))).toEqual({ kind: 'resize', ...of })
})

for (const [method, path] of [
  ['GET', '/'],
  ['POST', DATA_PLANE.stdin(SANDBOX, EXEC)],
  ['GET', DATA_PLANE.output('sb-../../../etc', EXEC, 'stdout')],
  ['GET', DATA_PLANE.output(SANDBOX, '..', 'stdout')],
  ['GET', `/v1/sandboxes/${SANDBOX}/execs/${EXEC}/output/..`],
] as const) {
  test(`${method} ${path} is not found`, () => {
    expect(() => parseRoute(method, path)).toThrow(expect.objectContaining({ code: 'NOT_FOUND' }))
  })
}

for (const query of [
  'offset=-1',
  'offset=1e3',
  'offset=99999999999999999',
  'offset=',
  'follow=yes',
  'limit=0x1',
]) {
  test(`?${query} is refused`, () => {
    const path = `${DATA_PLANE.output(SANDBOX, EXEC, 'stdout')}?${query}`
    expect(() => parseRoute('GET', path)).toThrow(expect.objectContaining({ code: 'INVALID_ARGUMENT' }))
  })
}
