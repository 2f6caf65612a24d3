/** docs/modal-compatibility.md says what the code does: UPDATE=1 writes its lists anew. */

import { readFileSync, writeFileSync } from 'node:fs'
import { expect, test } from '@jest/globals'
import { OPTIONS, snakeCase } from './create-options.js'
import { ModalClient } from './gen/client_pb.js'
import { TaskCommandRouter } from './gen/task_command_router_pb.js'
import { NOT_SERVED, reasonFor } from './not-served.js'

const PAGE = new URL('../../../docs/modal-compatibility.md', import.meta.url)
const BEGIN = '<!-- lists: written by apps/gateway/modal/compatibility.spec.ts -->\n'

const code = (names: string[]) => names.map((name) => `\`${name}\``).join(', ')

function lists(): string {
  const rpcs = [ModalClient, TaskCommandRouter].map(
    ({ typeName, methods }) => `**${typeName}**: ${code(methods.map(({ name }) => name))}\n`,
  )
  const refusedRpcs = Object.entries(NOT_SERVED).map(([why, names]) => `| ${code(names)} | ${why} |`)
  const options = Object.entries(OPTIONS)
  const named = (wanted: string) =>
    code(options.filter(([, each]) => each === wanted).map(([name]) => snakeCase(name)))
  const refused = options.flatMap(([name, each]) =>
    typeof each === 'object' ? [`| \`${snakeCase(name)}\` | ${each.refused} |`] : [],
  )
  return [
    '## Calls that are served',
    '',
    ...rpcs,
    '## Calls that are answered UNIMPLEMENTED',
    '',
    '| call | why |',
    '|---|---|',
    ...refusedRpcs,
    '',
    '## Options of a sandbox',
    '',
    `Served: ${named('served')}.`,
    '',
    `Accepted, and without effect here: ${named('accepted')}.`,
    '',
    '| refused | why |',
    '|---|---|',
    ...refused,
    '',
  ].join('\n')
}

test('the page lists every call and every option', () => {
  const page = readFileSync(PAGE, 'utf8')
  const [words] = page.split(BEGIN)
  if (process.env.UPDATE === '1') writeFileSync(PAGE, `${words}${BEGIN}\n${lists()}`)
  else expect(page).toBe(`${words}${BEGIN}\n${lists()}`)
})

test('what is served is in no list of refusals', () => {
  const served = [ModalClient, TaskCommandRouter].flatMap(({ methods }) => methods.map(({ name }) => name))
  for (const name of served) {
    const exact = Object.values(NOT_SERVED).some((names) => names.includes(name))
    expect({ name, exact }).toEqual({ name, exact: false })
  }
  expect(reasonFor('TaskContainerList')).toBe('a sandbox has one container')
  expect(reasonFor('Nonsense')).toMatch(/no such call/)
})
