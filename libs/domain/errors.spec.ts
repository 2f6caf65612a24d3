import { readFileSync, writeFileSync } from 'node:fs'
import { expect, test } from '@jest/globals'
import { CODES, fromErrorBody, Rejected, SandtrailError, toErrorBody } from './errors.js'

const PAGE = [
  '# Error codes',
  '',
  'Stable: a code never changes its meaning. Printed from `libs/domain/errors.ts` (`UPDATE=1 npm run jest -- errors`).',
  '',
  '| code | HTTP | gRPC | exit code of the CLI |',
  '|---|---|---|---|',
  ...Object.entries(CODES).map(([code, { http, grpc, exit }]) => `| ${code} | ${http} | ${grpc} | ${exit} |`),
  '',
].join('\n')

test('docs/errors.md lists every code', () => {
  const path = new URL('../../docs/errors.md', import.meta.url)
  if (process.env.UPDATE) writeFileSync(path, PAGE)
  expect(readFileSync(path, 'utf8')).toBe(PAGE)
})

test('an error keeps its kind, code and hint over a wire', () => {
  const refusal = new Rejected('NAME_TAKEN', 'the name is taken', { hint: 'choose another' })
  const trouble = new SandtrailError('UNAVAILABLE', 'the broker is away')
  expect(fromErrorBody(toErrorBody(refusal))).toMatchObject({
    name: 'Rejected',
    code: 'NAME_TAKEN',
    hint: 'choose another',
  })
  expect(fromErrorBody(toErrorBody(trouble))).toMatchObject({
    name: 'SandtrailError',
    code: 'UNAVAILABLE',
    retryable: true,
  })
})

test('what is no error of ours tells nothing about itself', () => {
  expect(toErrorBody(new Error('password=hunter2'))).toMatchObject({
    code: 'INTERNAL',
    message: 'an internal error occurred',
  })
})
