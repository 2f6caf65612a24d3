import { ForwardOnly } from './forward-only.js'

/** What a stream's version cannot guard: unique names, who runs a sandbox, capacity and quota. */
export class Placement1790000000002 extends ForwardOnly {
  readonly name = 'Placement1790000000002'
  protected readonly sql = `
    create table claims (
      tenant text not null,
      kind text not null check (kind <> ''),
      key text not null check (key <> ''),
      holder text not null check (holder <> ''),
      at timestamptz not null default clock_timestamp(),
      primary key (tenant, kind, key)
    );

    -- One row per sandbox between placement and terminal event: the fence for facts and execs on other streams.
    create table live (
      sandbox_id text collate "C" primary key,
      tenant text not null,
      worker_id text not null,
      epoch integer not null check (epoch >= 1),
      state text not null check (state in ('open', 'closing')),
      at timestamptz not null default clock_timestamp()
    );
    create index live_by_worker on live (worker_id);

    -- reserved_* may exceed capacity_* only when a worker comes back smaller than it was.
    create table workers (
      worker_id text primary key,
      state text not null check (state in ('active', 'cordoned', 'lost')),
      capacity_cpu_millis bigint not null check (capacity_cpu_millis >= 0),
      capacity_memory_bytes bigint not null check (capacity_memory_bytes >= 0),
      capacity_disk_bytes bigint not null check (capacity_disk_bytes >= 0),
      cpu_factor integer not null default 16 check (cpu_factor >= 1),
      reserved_cpu_millis bigint not null default 0 check (reserved_cpu_millis >= 0),
      reserved_memory_bytes bigint not null default 0 check (reserved_memory_bytes >= 0),
      reserved_disk_bytes bigint not null default 0 check (reserved_disk_bytes >= 0),
      pool_free_bytes bigint not null default 0,
      incarnation text,
      info jsonb not null default '{}',
      heartbeat_at timestamptz not null default clock_timestamp(),
      registered_at timestamptz not null default clock_timestamp()
    );

    -- A quota of null is unlimited.
    create table tenants (
      tenant text primary key check (tenant <> ''),
      quota_sandboxes integer check (quota_sandboxes >= 0),
      quota_cpu_millis bigint check (quota_cpu_millis >= 0),
      quota_memory_bytes bigint check (quota_memory_bytes >= 0),
      quota_disk_bytes bigint check (quota_disk_bytes >= 0),
      used_sandboxes integer not null default 0 check (used_sandboxes >= 0),
      used_cpu_millis bigint not null default 0 check (used_cpu_millis >= 0),
      used_memory_bytes bigint not null default 0 check (used_memory_bytes >= 0),
      used_disk_bytes bigint not null default 0 check (used_disk_bytes >= 0),
      created_at timestamptz not null default clock_timestamp()
    );

    create table reservations (
      sandbox_id text collate "C" primary key,
      tenant text not null,
      worker_id text not null,
      cpu_millis bigint not null check (cpu_millis >= 0),
      memory_bytes bigint not null check (memory_bytes >= 0),
      disk_bytes bigint not null check (disk_bytes >= 0)
    );
    create index reservations_by_worker on reservations (worker_id);

    grant select, insert, update, delete on claims, live, workers, tenants, reservations to sandtrail_service;
    grant select on claims, live, workers, tenants, reservations to sandtrail_auditor;
  `
}
