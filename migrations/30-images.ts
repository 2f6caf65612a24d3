import { ForwardOnly } from './forward-only.js'

/** The snapshotter's list of images, fed from the ledger. */
export class Images1790000000030 extends ForwardOnly {
  readonly name = 'Images1790000000030'
  protected readonly sql = `
    create table images (
      image_id text primary key,
      tenant text not null,
      state text not null,
      -- Asked for at the import; it becomes the image's own when that is ready.
      wanted_name text,
      name text,
      source jsonb not null,
      digest text,
      replicas text[] not null,
      created_at timestamptz not null
    );
    create index images_by_tenant on images (tenant, image_id desc);
    create unique index images_by_name on images (tenant, name) where name is not null;
    grant select, insert, update, delete, truncate on images to sandtrail_service;
  `
}
