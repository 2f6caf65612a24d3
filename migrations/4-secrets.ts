import { ForwardOnly } from './forward-only.js'

/** Tenant keys, wrapped by a master key that is never in the database, and the hashes of API tokens. */
export class Secrets1790000000004 extends ForwardOnly {
  readonly name = 'Secrets1790000000004'
  protected readonly sql = `
    -- wrapped is null once the key is destroyed: what it sealed is erased, and the chain still verifies.
    create table tenant_keys (
      key_id uuid primary key,
      tenant text not null,
      wrapped bytea,
      created_at timestamptz not null default clock_timestamp(),
      destroyed_at timestamptz,
      check ((wrapped is null) = (destroyed_at is not null))
    );
    create unique index tenant_keys_in_use on tenant_keys (tenant) where destroyed_at is null;

    create table tokens (
      id text primary key,
      tenant text not null,
      name text not null check (name <> ''),
      secret_hash bytea not null unique check (length(secret_hash) = 32),
      created_at timestamptz not null default clock_timestamp(),
      revoked_at timestamptz
    );
    create index tokens_by_tenant on tokens (tenant);

    grant select, insert, update on tenant_keys, tokens to sandtrail_service;
  `
}
