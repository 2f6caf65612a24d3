import { ForwardOnly } from './forward-only.js'

/** Read models of snapshotter and volume-syncer, and the worklist of what ended sandboxes left staged. */
export class Catalog1790000000100 extends ForwardOnly {
  readonly name = 'Catalog1790000000100'
  protected readonly sql = `
    create table images (
      image_id text primary key,
      tenant text not null,
      name text,
      state text not null,
      source jsonb not null,
      digest text,
      replicas text[] not null,
      error jsonb,
      created_at timestamptz not null,
      position bigint not null
    );
    create index images_by_tenant on images (tenant, image_id desc);
    create index images_unfinished on images (image_id) where state = 'importing';

    create table snapshots (
      snapshot_id text primary key,
      tenant text not null,
      sandbox_id text not null,
      worker_id text not null,
      image_id text not null,
      parent text not null,
      state text not null,
      took_ms integer,
      error jsonb,
      created_at timestamptz not null,
      ended_at timestamptz,
      position bigint not null
    );
    create index snapshots_by_tenant on snapshots (tenant, snapshot_id desc);
    create index snapshots_unfinished on snapshots (snapshot_id) where state = 'requested';

    create table volumes (
      volume_id text primary key,
      tenant text not null,
      name text not null,
      state text not null,
      worker_id text not null,
      version integer not null,
      created_at timestamptz not null,
      position bigint not null
    );
    create index volumes_by_tenant on volumes (tenant, volume_id desc);

    -- Asked for and neither committed nor failed. Rebuilt from the ledger, like the tables above.
    create table open_volume_commits (
      volume_id text not null,
      commit_id text not null,
      tenant text not null,
      sandbox_id text not null,
      primary key (volume_id, commit_id)
    );

    -- Written with the cursor that has passed the sandbox's terminal event; a row goes when its version is recorded.
    create table staged_commits (
      volume_id text not null,
      commit_id text not null,
      tenant text not null,
      sandbox_id text not null,
      event_id text not null,
      at timestamptz not null default clock_timestamp(),
      primary key (volume_id, commit_id)
    );

    -- truncate: a rebuild begins with empty tables.
    grant select, insert, update, delete, truncate on images, snapshots, volumes, open_volume_commits
      to sandtrail_service;
    grant select, insert, update, delete on staged_commits to sandtrail_service;
  `
}
