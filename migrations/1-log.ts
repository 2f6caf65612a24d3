import { ForwardOnly } from './forward-only.js'

/** The log itself: events, the order that the sequencer gives them, signed checkpoints, and the commands behind them. */
export class Log1790000000001 extends ForwardOnly {
  readonly name = 'Log1790000000001'
  protected readonly sql = `
    -- Roles belong to the cluster, not to the database: another database's migration may have made them, even now.
    do $$ begin create role sandtrail_service nologin; exception when duplicate_object or unique_violation then null; end $$;
    do $$ begin create role sandtrail_auditor nologin; exception when duplicate_object or unique_violation then null; end $$;
    grant usage on schema public to sandtrail_service, sandtrail_auditor;

    create function refuse_change() returns trigger language plpgsql as $$
    begin
      raise exception '% on % refused: it is append-only', tg_op, tg_table_name using errcode = 'insufficient_privilege';
    end $$;

    -- One sequence for all partitions: the order of insert that the sequencer follows. Its default below makes sure that
    -- a transaction has its id before its first seq, which is what lets the sequencer tell when no older seq can come.
    create sequence events_seq as bigint;

    create table events (
      tenant text not null check (tenant <> ''),
      -- By bytes: looked up by prefix too, and the same order whatever the database's locale.
      stream text collate "C" not null check (stream <> ''),
      version integer not null check (version >= 1),
      seq bigint not null default nextval(case when pg_current_xact_id() is not null then 'events_seq'::regclass end),
      event_id uuid not null,
      type text not null check (type <> ''),
      type_version smallint not null check (type_version >= 1),
      at timestamptz(3) not null,
      data jsonb not null check (jsonb_typeof(data) = 'object'),
      sealed bytea,
      meta jsonb not null check (jsonb_typeof(meta) = 'object'),
      prev_hash bytea not null check (length(prev_hash) = 32),
      hash bytea not null check (length(hash) = 32),
      primary key (stream, version)
    ) partition by hash (stream);

    do $$ begin
      for n in 0..15 loop
        execute format('create table events_%s partition of events for values with (modulus 16, remainder %s)', n, n);
        -- A truncate of the partition itself does not fire the parent's trigger.
        execute format('create trigger append_only_truncate before truncate on events_%s execute function refuse_change()', n);
      end loop;
    end $$;
    create index events_by_seq on events (seq);
    create trigger append_only before update or delete on events for each row execute function refuse_change();
    create trigger append_only_truncate before truncate on events execute function refuse_change();

    -- seq is the reference to the event; stream and version repeat what the file outside says about the position.
    create table ledger (
      position bigint primary key check (position >= 1),
      seq bigint not null unique,
      stream text collate "C" not null,
      version integer not null check (version >= 1),
      hash bytea not null check (length(hash) = 32),
      term bigint not null check (term >= 1),
      at timestamptz not null default clock_timestamp()
    );
    create trigger append_only before update or delete on ledger for each row execute function refuse_change();
    create trigger append_only_truncate before truncate on ledger execute function refuse_change();

    -- note: C2SP tlog-checkpoint text. frontier: roots of the full subtrees, so that a new leader goes on from here.
    create table checkpoints (
      size bigint primary key check (size >= 1),
      root bytea not null check (length(root) = 32),
      note text not null,
      frontier bytea[] not null,
      term bigint not null check (term >= 1),
      at timestamptz not null default clock_timestamp()
    );
    create trigger append_only before update or delete on checkpoints for each row execute function refuse_change();
    create trigger append_only_truncate before truncate on checkpoints execute function refuse_change();

    -- One row: the leader's. position: the last one given. floor: every event up to this seq is in the ledger.
    create table sequencer (
      one boolean primary key default true check (one),
      term bigint not null default 0 check (term >= 0),
      leader text,
      heartbeat_at timestamptz not null default '-infinity',
      position bigint not null default 0 check (position >= 0),
      floor bigint not null default 0 check (floor >= 0)
    );
    insert into sequencer default values;

    create table commands (
      tenant text not null check (tenant <> ''),
      command_id text not null check (command_id <> ''),
      verb text not null check (verb <> ''),
      hash bytea not null check (length(hash) = 32),
      outcome jsonb not null check (jsonb_typeof(outcome) = 'object'),
      rejected boolean not null,
      -- Tells the writer of this row from another attempt, after a connection was lost during the commit.
      attempt uuid not null,
      expires_at timestamptz not null,
      at timestamptz not null default clock_timestamp(),
      primary key (tenant, command_id),
      -- 24 hours by the rules, and an hour for clocks that differ.
      check (expires_at <= at + interval '25 hours')
    );
    create index commands_by_expiry on commands (expires_at);
    create function refuse_early_delete() returns trigger language plpgsql as $$
    begin
      if old.expires_at > clock_timestamp() - interval '7 days' then
        raise exception 'a command is kept for 7 days after its expiry' using errcode = 'insufficient_privilege';
      end if;
      return old;
    end $$;
    create trigger no_update before update on commands for each row execute function refuse_change();
    create trigger kept before delete on commands for each row execute function refuse_early_delete();
    create trigger kept_truncate before truncate on commands execute function refuse_change();

    grant usage on sequence events_seq to sandtrail_service;
    grant select, insert on events, ledger, checkpoints to sandtrail_service;
    grant select, update on sequencer to sandtrail_service;
    grant select, insert, delete on commands to sandtrail_service;
    -- An auditor verifies the log himself: that takes every column, and what follows from the events.
    grant select on events, ledger, checkpoints, sequencer to sandtrail_auditor;
  `
}
