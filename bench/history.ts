/** A long history at once, by SQL: sandboxes that lived and ended, with two execs each. Its hashes are not real. */

import type { Database } from '#libs/event-store'

/** Of one sandbox: created, placed, started, stop requested, terminated, cleaned up, and twice three of an exec. */
export const EVENTS_PER_SANDBOX = 12

const TENANT = 'acme'

// As the services write them: sizes are those of a sandbox with defaults (docs/lifecycles.md has the types).
const WRITE = `
  with lives as (
    select n, 'sb-' || lpad(n::text, 26, '0') as sandbox, now() - interval '1 day' + n * interval '10 milliseconds' as at
    from generate_series($1::integer, $2::integer) n
  ), written as (
    select l.n, s.step, l.at + s.step * interval '1 second' as at, s.type, s.version,
           case when s.exec is null then l.sandbox else 'ex-' || lpad((l.n * 2 + s.exec)::text, 26, '0') end as stream,
           case s.type
             when 'SandboxCreated' then jsonb_build_object('spec', $3::jsonb || jsonb_build_object('name', 'name-' || l.n))
             when 'ExecRequested' then jsonb_build_object('spec', $4::jsonb || jsonb_build_object('sandboxId', l.sandbox))
             else s.data
           end as data
    from lives l cross join (values
      (1, 'SandboxCreated', 1, null, '{}'::jsonb),
      (2, 'SandboxPlaced', 2, null, '{"workerId": "wk-00000000000000000000000001", "epoch": 1, "startDeadlineMs": 60000}'),
      (3, 'SandboxStarted', 3, null, '{"workerId": "wk-00000000000000000000000001", "epoch": 1, "volumes": []}'),
      (4, 'ExecRequested', 1, 0, '{}'),
      (5, 'ExecStarted', 2, 0, '{"pid": 7}'),
      (6, 'ExecExited', 3, 0, $5::jsonb),
      (7, 'ExecRequested', 1, 1, '{}'),
      (8, 'ExecStarted', 2, 1, '{"pid": 9}'),
      (9, 'ExecExited', 3, 1, $5::jsonb),
      (10, 'SandboxStopRequested', 4, null, '{"reason": "terminate", "deadlineMs": 30000}'),
      (11, 'SandboxTerminated', 5, null, '{"exitCode": 137, "staged": []}'),
      (12, 'SandboxCleanedUp', 6, null, '{"leftovers": []}')
    ) s (step, type, version, exec, data)
  )
  insert into events (tenant, stream, version, event_id, type, type_version, at, data, meta, prev_hash, hash)
  select '${TENANT}', stream, version, gen_random_uuid(), type, 1, at, data, $6::jsonb, h, h
  from written, (select decode(repeat('ab', 32), 'hex') as h) hash
  order by n, step
`
const PLACE = `
  insert into ledger (position, seq, stream, version, hash, term)
  select row_number() over (order by seq), seq, stream, version, hash, 1 from events
`

const SPEC = {
  runtime: 'gvisor',
  image: { imageId: 'im-00000000000000000000000001', ref: 'base:latest' },
  command: null,
  workdir: null,
  user: null,
  envNames: [],
  resources: { cpuMillis: 125, memoryBytes: 134_217_728, diskBytes: 1_073_741_824 },
  cpuLimitMillis: null,
  diskLimitBytes: 549_755_813_888,
  timeoutMs: 300_000,
  idleTimeoutMs: null,
  network: 'none',
  volumes: [],
  name: null,
  tags: { team: 'evals', suite: 'nightly' },
}
const EXEC = {
  epoch: 1,
  argv: ['/bin/sh', '-c', 'run the tests of shard 17'],
  workdir: null,
  user: null,
  envNames: [],
  pty: null,
  stdin: 'closed',
  timeoutMs: null,
}
const OUTPUT = { bytes: 6, droppedBytes: 0, sha256: 'ab'.repeat(32) }
const EXITED = { exitCode: 0, signal: null, reason: 'exit', stdout: OUTPUT, stderr: OUTPUT }
const META = {
  actor: 'token:tk_bench',
  commandId: '0f6a1f0e-5a3c-4b1d-9a53-7c7f1d2a9e10',
  causationId: null,
  correlationId: '0f6a1f0e-5a3c-4b1d-9a53-7c7f1d2a9e10',
  traceparent: null,
  workerId: null,
  epoch: null,
  effects: null,
}

/** A statement: each is over well within the time that statements have. */
const SLICE = 10_000

/** Writes the events of so many sandboxes of the tenant `acme`, placed in the ledger. */
export async function writeHistory(db: Database, sandboxes: number): Promise<void> {
  const client = await db.connect()
  try {
    await client.query('set statement_timeout = 0')
    const fixed = [SPEC, EXEC, EXITED, META].map((value) => JSON.stringify(value))
    for (let from = 1; from <= sandboxes; from += SLICE) {
      await client.query(WRITE, [from, Math.min(from + SLICE - 1, sandboxes), ...fixed])
    }
    await client.query(PLACE)
    await client.query('vacuum analyze events, ledger')
    await client.query('reset statement_timeout')
  } finally {
    client.release()
  }
}
