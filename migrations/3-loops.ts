import { ForwardOnly } from './forward-only.js'

/** Durable timers, the cursors of whoever follows the ledger, and messages that nobody could handle. */
export class Loops1790000000003 extends ForwardOnly {
  readonly name = 'Loops1790000000003'
  protected readonly sql = `
    create sequence timers_generation as bigint;
    -- generation changes with each setting, so that a handler consumes only the setting that it was given.
    create table timers (
      key text primary key check (key <> ''),
      tenant text not null,
      generation bigint not null default nextval('timers_generation'),
      due timestamptz not null,
      kind text not null check (kind <> ''),
      payload jsonb not null,
      attempts integer not null default 0 check (attempts >= 0)
    );
    create index timers_by_due on timers (due);

    -- Of subscriptions, process managers and the publisher.
    create table cursors (
      name text primary key check (name <> ''),
      position bigint not null default 0 check (position >= 0),
      at timestamptz not null default clock_timestamp()
    );

    -- Kept apart from cursors: a rebuild sets it back, nothing else does.
    create table projections (
      name text primary key check (name <> ''),
      position bigint not null default 0 check (position >= 0),
      at timestamptz not null default clock_timestamp()
    );

    create table parked_messages (
      id bigint generated always as identity primary key,
      tenant text,
      subject text not null,
      headers jsonb not null default '{}',
      body bytea not null,
      reason text not null,
      at timestamptz not null default clock_timestamp()
    );

    grant usage on sequence timers_generation to sandtrail_service;
    grant select, insert, update, delete on timers, cursors, projections, parked_messages to sandtrail_service;
  `
}
