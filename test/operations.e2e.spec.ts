/** What an operator sees of a running system: probes, metrics. */

import { afterAll, beforeAll, expect, test } from '@jest/globals'
import { TestSystem, until } from './system.js'

let system: TestSystem
beforeAll(async () => {
  system = await TestSystem.start({ schedulers: 2 })
}, 180_000)
afterAll(() => system?.stop(), 60_000)

const SERVICES = ['gateway', 'scheduler-1', 'scheduler-2', 'snapshotter', 'volume-syncer', 'worker-1']

async function probe(service: string, path: string): Promise<{ status: number; text: string }> {
  const found = system.system.services().find(({ name }) => name === service)
  if (!found?.metrics) throw new Error(`${service} has no port for probes`)
  const response = await fetch(found.metrics + path)
  return { status: response.status, text: await response.text() }
}

/** Series by name and labels, over all services; the same one of two services is summed up. */
async function scrape(): Promise<Map<string, number>> {
  const series = new Map<string, number>()
  for (const service of SERVICES) {
    for (const [, name, value] of (await probe(service, '/metrics')).text.matchAll(/^([a-z]\S*) (\S+)$/gm)) {
      series.set(name!, (series.get(name!) ?? 0) + Number(value))
    }
  }
  return series
}

test('the metrics of all services tell what the system did and what it has', async () => {
  const sandbox = await system.ok('create')
  await system.ok('exec', sandbox, '--', 'sh', '-c', 'head -c 100000 /dev/zero')
  expect((await system.run(['exec', 'sb-00000000000000000000000000', '--', 'true'])).code).toBe(3)
  const series = await until(async () => {
    const all = await scrape()
    return all.get('sandtrail_sandboxes{state="running"}') === 1 && all
  })
  for (const [name, expected] of [
    ['sandtrail_commands_total{command="sandbox.create",outcome="accepted"}', 1],
    ['sandtrail_commands_total{command="sandbox.exec",outcome="accepted"}', 1],
    ['sandtrail_command_accept_seconds_count{command="sandbox.exec"}', 1],
    ['sandtrail_sequencer_leader', 1],
    ['sandtrail_workers{state="active"}', 1],
    ['sandtrail_worker_sandboxes{state="running"}', 1],
    ['sandtrail_worker_create_step_seconds_count{step="run"}', 1],
    ['sandtrail_worker_create_step_seconds_count{step="total"}', 1],
    ['sandtrail_worker_exec_stage_seconds_count{stage="start"}', 1],
    ['sandtrail_worker_exec_stage_seconds_count{stage="total"}', 1],
    ['sandtrail_dead_letters', 0],
    ['sandtrail_consumer_pending_messages{consumer="scheduler"}', 0],
  ] as const) {
    expect([name, series.get(name)]).toEqual([name, expected])
  }
  expect(series.get('sandtrail_worker_spool_bytes')).toBeGreaterThanOrEqual(100_000)
  expect(series.get('sandtrail_worker_pool_bytes{state="free"}')).toBeGreaterThan(0)
  expect([...series.keys()].join('\n')).not.toMatch(/(sb|ex|wk|im)-[0-9A-Z]{26}/)
  // What follows goes to zero once it is done.
  await until(async () => {
    const all = await scrape()
    return ['sequencer_lag_events', 'publish_lag_events', 'worker_outbox_facts'].every(
      (name) => all.get(`sandtrail_${name}`) === 0,
    )
  })
  await system.ok('rm', sandbox)
}, 90_000)

test('every service is alive, ready while what it needs is there, and says what is not', async () => {
  for (const service of SERVICES) {
    expect([service, (await probe(service, '/healthz')).status]).toEqual([service, 200])
    await until(async () => (await probe(service, '/readyz')).status === 200)
  }
  await system.system.kill('nats')
  for (const service of SERVICES) {
    await until(async () => (await probe(service, '/readyz')).status === 503)
    const { checks } = JSON.parse((await probe(service, '/readyz')).text) as {
      checks: { name: string; ok: boolean }[]
    }
    expect([service, checks.find(({ name }) => name === 'broker')?.ok]).toEqual([service, false])
    expect((await probe(service, '/healthz')).status).toBe(200)
    expect((await probe(service, '/metrics')).status).toBe(200)
  }
  await system.system.start('nats')
  for (const service of SERVICES) await until(async () => (await probe(service, '/readyz')).status === 200)
}, 90_000)
