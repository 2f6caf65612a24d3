import { ForwardOnly } from './forward-only.js'

/** Tables that can be dropped and built again from the ledger at any time. */
export class ReadModels1790000000005 extends ForwardOnly {
  readonly name = 'ReadModels1790000000005'
  protected readonly sql = `
    create table sandboxes (
      sandbox_id text collate "C" primary key,
      tenant text not null,
      state text not null,
      name text,
      tags jsonb not null,
      image_id text not null,
      image_ref text not null,
      worker_id text,
      epoch integer,
      created_at timestamptz not null,
      started_at timestamptz,
      ended_at timestamptz,
      terminal_event text,
      exit_code integer,
      reason text,
      position bigint not null
    );
    -- Ids are ULIDs, so their order is that of creation: the list pages by it.
    create index sandboxes_by_tenant on sandboxes (tenant, sandbox_id desc);
    create index sandboxes_by_name on sandboxes (tenant, name) where name is not null;
    create index sandboxes_by_tags on sandboxes using gin (tags jsonb_path_ops);

    grant select, insert, update, delete on sandboxes to sandtrail_service;
  `
}
