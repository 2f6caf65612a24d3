import { ForwardOnly } from './forward-only.js'

/** Secrets of the callers: names and keys to look them up by, values sealed under the tenant's key. */
export class StoredSecrets1790000000320 extends ForwardOnly {
  readonly name = 'StoredSecrets1790000000320'
  protected readonly sql = `
    create table secrets (
      secret_id text primary key check (secret_id like 'st-%'),
      tenant text not null check (tenant <> ''),
      environment text not null check (environment <> ''),
      -- null: made for one use, and forgotten after expires_at.
      name text check (name <> ''),
      keys text[] not null,
      sealed bytea not null,
      version integer not null default 1 check (version > 0),
      created_at timestamptz not null default clock_timestamp(),
      changed_at timestamptz not null default clock_timestamp(),
      expires_at timestamptz,
      check ((name is null) = (expires_at is not null))
    );
    create unique index secrets_by_name on secrets (tenant, environment, name) where name is not null;
    create index secrets_by_expiry on secrets (expires_at) where expires_at is not null;

    grant select, insert, update, delete on secrets to sandtrail_service;
  `
}
