import { ForwardOnly } from './forward-only.js'

/**
 * Limits of each tenant, open execs as a counted resource, who may administer, who uploaded which blob, and an audit of
 * refused calls.
 */
export class Tenants1790000000200 extends ForwardOnly {
  readonly name = 'Tenants1790000000200'
  protected readonly sql = `
    -- Null is unlimited. Defaults: docs/tenants.md.
    alter table tenants
      add column quota_execs integer check (quota_execs >= 0),
      add column used_execs integer not null default 0 check (used_execs >= 0),
      add column commands_per_second integer default 500 check (commands_per_second >= 1),
      add column commands_burst integer not null default 2000 check (commands_burst >= 1),
      add column requests_per_second integer default 1000 check (requests_per_second >= 1),
      add column requests_burst integer not null default 4000 check (requests_burst >= 1),
      add column nats_connections integer not null default 256 check (nats_connections >= 1),
      add column nats_subscriptions integer not null default 10000 check (nats_subscriptions >= 1),
      add column nats_payload_bytes integer not null default 1114112 check (nats_payload_bytes >= 1024);

    -- One row per exec between its acceptance and its terminal event. Those accepted before this migration have none.
    create table exec_slots (
      exec_id text collate "C" primary key,
      tenant text not null
    );
    grant select, insert, delete on exec_slots to sandtrail_service;
    grant select on exec_slots to sandtrail_auditor;

    -- An operator's token administers tenants and shared images. The first token of an installation was made by whoever
    -- set it up; a bootstrap token of any other tenant was made for that tenant.
    alter table tokens add column operator boolean not null default false;
    update tokens set operator = true where name = 'bootstrap' and tenant = 'default';
    create or replace view audit_tokens as
      select id, tenant, name, created_at, revoked_at, operator from tokens;

    -- Blobs are named by their content: without this, whoever knows a digest could import what another has uploaded.
    create table uploads (
      tenant text not null,
      sha256 text not null check (sha256 ~ '^[0-9a-f]{64}$'),
      at timestamptz not null default clock_timestamp(),
      primary key (tenant, sha256)
    );
    insert into uploads (tenant, sha256)
      select distinct tenant, data #>> '{source,sha256}' from events where type = 'ImageImportRequested';
    grant select, insert on uploads to sandtrail_service;

    -- Counts of one key within a few seconds, written once. tenant and actor are null for whoever is not known.
    create table refusals (
      id bigint generated always as identity primary key,
      service text not null,
      tenant text,
      actor text,
      code text not null,
      action text not null,
      detail text,
      count integer not null check (count >= 1),
      first_at timestamptz not null,
      last_at timestamptz not null,
      at timestamptz not null default clock_timestamp()
    );
    create index refusals_by_tenant on refusals (tenant, id desc);
    create function refuse_early_delete_of_refusal() returns trigger language plpgsql as $$
    begin
      if old.at > clock_timestamp() - interval '90 days' then
        raise exception 'a refusal is kept for 90 days' using errcode = 'insufficient_privilege';
      end if;
      return old;
    end $$;
    create trigger append_only before update on refusals for each row execute function refuse_change();
    create trigger kept before delete on refusals for each row execute function refuse_early_delete_of_refusal();
    create trigger kept_truncate before truncate on refusals execute function refuse_change();
    grant select, insert, delete on refusals to sandtrail_service;

    create view audit_refusals as
      select date_trunc('minute', last_at) as minute, tenant, actor, code, action, detail, sum(count)::bigint as count,
             min(first_at) as first_at, max(last_at) as last_at
      from refusals
      group by date_trunc('minute', last_at), tenant, actor, code, action, detail;
    create view audit_tenants as
      select tenant, created_at,
             quota_sandboxes, quota_execs, quota_cpu_millis, quota_memory_bytes, quota_disk_bytes,
             used_sandboxes, used_execs, used_cpu_millis, used_memory_bytes, used_disk_bytes,
             commands_per_second, commands_burst, requests_per_second, requests_burst,
             nats_connections, nats_subscriptions, nats_payload_bytes
      from tenants;
    grant select on audit_refusals, audit_tenants to sandtrail_auditor, sandtrail_service;
  `
}
