import { ForwardOnly } from './forward-only.js'

/** The snapshotter's read models: images and snapshots, and which of them are unfinished. */
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

    -- truncate: a rebuild begins with empty tables.
    grant select, insert, update, delete, truncate on images, snapshots to sandtrail_service;
  `
}
