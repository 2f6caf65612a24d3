import { readFileSync, writeFileSync } from 'node:fs'
import { expect, test } from '@jest/globals'
import type { Transition } from './aggregate.js'
import { APP_TRANSITIONS } from './app/index.js'
import { EXEC_TRANSITIONS } from './exec/index.js'
import { IMAGE_TRANSITIONS } from './image/index.js'
import { SANDBOX_TRANSITIONS } from './sandbox/index.js'
import { SNAPSHOT_TRANSITIONS } from './snapshot/index.js'
import { TENANT_TRANSITIONS, TOKEN_TRANSITIONS } from './tenant/index.js'
import { VOLUME_TRANSITIONS } from './volume/index.js'
import { WORKER_TRANSITIONS } from './worker/index.js'

function table(name: string, steps: readonly Transition<string>[]): string {
  const rows = steps.map(({ from, event, to }) => `| ${from} | ${event} | ${to} |`)
  return [`## ${name}`, '', '| from | event | to |', '|---|---|---|', ...rows, ''].join('\n')
}

const PAGE = [
  '# Lifecycles',
  '',
  'Every state and every legal transition, printed from `libs/domain` (`UPDATE=1 npm run jest -- lifecycles`).',
  'A sandbox has exactly one of SandboxFinished, SandboxTerminated, SandboxTimedOut, SandboxFailed and SandboxLost.',
  '',
  table('Sandbox', SANDBOX_TRANSITIONS),
  table('Exec', EXEC_TRANSITIONS),
  table('Image', IMAGE_TRANSITIONS),
  table('Snapshot', SNAPSHOT_TRANSITIONS),
  table('Volume', VOLUME_TRANSITIONS),
  table('Worker', WORKER_TRANSITIONS),
  table('Tenant', TENANT_TRANSITIONS),
  table('Token', TOKEN_TRANSITIONS),
  table('App', APP_TRANSITIONS),
].join('\n')

test('docs/lifecycles.md prints the tables that the code obeys', () => {
  const path = new URL('../../docs/lifecycles.md', import.meta.url)
  if (process.env.UPDATE) writeFileSync(path, PAGE)
  expect(readFileSync(path, 'utf8')).toBe(PAGE)
})
