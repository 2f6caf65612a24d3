import { ForwardOnly } from './forward-only.js'

/** The list of apps, and their name in the auditor's views. */
export class Apps1790000000340 extends ForwardOnly {
  readonly name = 'Apps1790000000340'
  protected readonly sql = `
    create table apps (
      app_id text collate "C" primary key,
      tenant text not null,
      name text,
      environment text not null,
      kind text not null,
      description text not null,
      state text not null,
      created_at timestamptz not null,
      stopped_at timestamptz,
      stop_reason text,
      position bigint not null
    );
    -- Ids are ULIDs, so their order is that of creation: the list pages by it.
    create index apps_by_tenant on apps (tenant, app_id desc);
    create index apps_by_name on apps (tenant, environment, name, app_id desc) where name is not null;
    grant select, insert, update, delete on apps to sandtrail_service;

    create or replace function aggregate_of(stream text) returns text language sql immutable parallel safe as $$
      select case
        when stream like 'sb-%' then 'sandbox'
        when stream like 'ex-%' then 'exec'
        when stream like 'im-%' then 'image'
        when stream like 'sn-%' then 'snapshot'
        when stream like 'vo-%' then 'volume'
        when stream like 'ap-%' then 'app'
        else split_part(stream, ':', 1)
      end
    $$;
    create view audit_apps as
      select app_id, tenant, name, environment, kind, description, state, created_at, stopped_at, stop_reason, position
      from apps;
    grant select on audit_apps to sandtrail_auditor, sandtrail_service;
  `
}
