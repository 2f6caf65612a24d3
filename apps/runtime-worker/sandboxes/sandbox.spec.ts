import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, expect, test } from '@jest/globals'
import type { Fact } from '#libs/contract'
import { createLog } from '#libs/service'
import { bootId } from '../boot-clock.js'
import { Outbox } from '../outbox/outbox.js'
import type { RuntimeDriver } from '../runtime.js'
import { Spool } from '../spool/spool.js'
import { newSandboxId, sandboxSpec } from '../testing.js'
import { Journal } from './journal.js'
import { Sandbox } from './sandbox.js'

const root = mkdtempSync(join(tmpdir(), 'sandtrail-sandbox-'))
afterAll(() => rmSync(root, { recursive: true }))
const SPOOL_LIMITS = {
  streamBytesMax: 1024 ** 2,
  sandboxBytesMax: 1024 ** 3,
  keepMs: 3_600_000,
  reserveBytes: 0,
}
const log = createLog('test', 'fatal')

/** With a runtime that does what `driver` says; `gone` resolves with the facts that it told. */
function newSandbox(driver: Partial<RuntimeDriver>) {
  const dir = mkdtempSync(join(root, 'one-'))
  const facts: Fact[] = []
  const gone = Promise.withResolvers<Fact[]>()
  const outbox = new Outbox(async (report) => {
    facts.push(...report.facts)
    return { ok: true, acceptedTo: report.facts.at(-1)!.factSeq, fenced: false }
  }, log)
  const record = {
    sandboxId: newSandboxId(),
    epoch: 1,
    tenant: 'acme',
    spec: sandboxSpec(),
    bootId: bootId(),
  }
  const begin = () =>
    new Sandbox(record, dir, {
      driver: { destroy: async () => [], ...driver } as RuntimeDriver,
      spool: new Spool(join(dir, 'spool'), SPOOL_LIMITS),
      outbox,
      log,
      ready: async () => {},
      stageVolumes: async () => [],
      onGone: async () => gone.resolve(facts),
    })
  return { dir, begin, gone: gone.promise }
}

test('a sandbox that cannot be taken up again after a restart ends, and takes nothing else with it', async () => {
  const { dir, begin, gone } = newSandbox({ adopt: () => Promise.reject(new Error('nonsense')) })
  Journal.open(dir).append({ kind: 'running' })
  const sandbox = begin()
  sandbox.resume()
  await sandbox.settled
  expect(await gone).toMatchObject([
    { kind: 'sandbox-ended', ending: { kind: 'failed', step: 'adopt', code: 'WORKER_RESTARTED' } },
    { kind: 'sandbox-cleaned-up' },
  ])
})
