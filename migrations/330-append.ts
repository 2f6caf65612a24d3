import { ForwardOnly } from './forward-only.js'

/**
 * The writing transaction of an append as one statement (docs/adr/0013). What calls it: libs/event-store/write.ts;
 * the form of `p`: group-json.ts beside it.
 */
export class Append1790000000330 extends ForwardOnly {
  readonly name = 'Append1790000000330'
  protected readonly sql = `
    -- Which quota refuses is told from the tenant's row, which the append has locked.
    create function full_tenant(tenant_ text) returns jsonb language sql as $$
      select jsonb_build_object('outcome', 'no-capacity', 'of', 'tenant', 'tenant', to_jsonb(t) || jsonb_build_object(
        'used_execs', (select count(*) from exec_slots s where s.tenant = t.tenant)
      ))
      from tenants t
      where t.tenant = tenant_
    $$;

    -- Null: everything is written. Otherwise the first refusal in the order of the locks; what was done is to be undone.
    -- Each statement sees what others committed before it got its locks (read committed, volatile). Rows come in the
    -- order of their keys, so that two groups never wait for each other.
    create function write_commands(p jsonb) returns jsonb language plpgsql as $$
    declare
      tenant_ constant text := p->>'tenant';
      n integer;
      wanted integer;
      item record;
      found_ record;
      sums record;
      reason text;
      missing jsonb;
    begin
      -- A second attempt waits here until the first has committed or rolled back.
      insert into commands (tenant, command_id, verb, hash, outcome, rejected, attempt, expires_at)
      select tenant_, c.id, c.verb, decode(c.hash, 'hex'), c.outcome, c.rejected, c.attempt, c."expiresAt"
      from jsonb_to_recordset(p->'commands') as c (
        id text, verb text, hash text, outcome jsonb, rejected boolean, attempt uuid, "expiresAt" timestamptz
      )
      where c."expiresAt" > clock_timestamp()
      on conflict (tenant, command_id) do nothing;
      get diagnostics n = row_count;
      if n < jsonb_array_length(p->'commands') then return '{"outcome": "duplicate"}'; end if;

      if p ? 'require' then
        -- Share: execs do not wait for each other, but a closing waits for them and they for it.
        perform from live
        where sandbox_id in (select r->>'sandboxId' from jsonb_array_elements(p->'require') r) and tenant = tenant_
        order by sandbox_id
        for share;
        select case
            when l.sandbox_id is null then 'absent'
            when r."workerId" <> l.worker_id or r.epoch <> l.epoch then 'epoch'
            when r.open and l.state = 'closing' then 'closing'
          end
        into reason
        from jsonb_to_recordset(p->'require') as r ("sandboxId" text, "workerId" text, epoch integer, open boolean)
        left join live l on l.sandbox_id = r."sandboxId" and l.tenant = tenant_
        where l.sandbox_id is null or r."workerId" <> l.worker_id or r.epoch <> l.epoch
          or r.open and l.state = 'closing'
        limit 1;
        if reason is not null then return jsonb_build_object('outcome', 'fenced', 'reason', reason); end if;
      end if;
      for item in
        select * from jsonb_to_recordset(p->'live') as l (action text, "sandboxId" text, "workerId" text, epoch integer)
      loop
        reason := null;
        case item.action
          when 'open' then
            insert into live (sandbox_id, tenant, worker_id, epoch, state)
            values (item."sandboxId", tenant_, item."workerId", item.epoch, 'open')
            on conflict (sandbox_id) do nothing;
            if not found then reason := 'epoch'; end if;
          when 'closing' then
            update live set state = 'closing' where sandbox_id = item."sandboxId" and tenant = tenant_;
            if not found then reason := 'absent'; end if;
          when 'close' then
            -- Deleted whoever asks, and judged by what was there: a refused append is undone.
            delete from live where sandbox_id = item."sandboxId" and tenant = tenant_
            returning worker_id, epoch into found_;
            if not found then reason := 'absent';
            elsif item."workerId" <> found_.worker_id or item.epoch <> found_.epoch then reason := 'epoch';
            end if;
        end case;
        if reason is not null then return jsonb_build_object('outcome', 'fenced', 'reason', reason); end if;
      end loop;

      if p ? 'release' then
        -- Only the holder's own: releasing what another holds by now changes nothing.
        delete from claims c
        using jsonb_to_recordset(p->'release') as r (kind text, key text, holder text)
        where c.tenant = tenant_ and c.kind = r.kind and c.key = r.key and c.holder = r.holder;
      end if;
      if p ? 'take' then
        -- A holder may take its own claim again. One that another is just taking is waited for.
        insert into claims as c (tenant, kind, key, holder)
        select tenant_, r.kind, r.key, r.holder
        from jsonb_to_recordset(p->'take') as r (kind text, key text, holder text)
        on conflict (tenant, kind, key) do update
        set at = c.at
        where c.holder = excluded.holder;
        get diagnostics n = row_count;
        if n < jsonb_array_length(p->'take') then
          select r into missing
          from jsonb_array_elements(p->'take') r
          join claims c on c.tenant = tenant_ and c.kind = r->>'kind' and c.key = r->>'key'
          where c.holder <> r->>'holder'
          limit 1;
          return jsonb_build_object('outcome', 'claim-taken', 'claim', missing);
        end if;
      end if;
      if p ? 'needed' then
        -- Share: those who build on one volume do not wait for each other, but its removal waits for them and they for it.
        perform from claims c
        join jsonb_to_recordset(p->'needed') as r (kind text, key text, holder text)
          on c.kind = r.kind and c.key = r.key and c.holder = r.holder
        where c.tenant = tenant_
        order by c.kind, c.key
        for share of c;
        get diagnostics n = row_count;
        if n < jsonb_array_length(p->'needed') then
          select r into missing
          from jsonb_array_elements(p->'needed') r
          where not exists (
            select from claims c
            where c.tenant = tenant_ and c.kind = r->>'kind' and c.key = r->>'key' and c.holder = r->>'holder'
          )
          limit 1;
          return jsonb_build_object('outcome', 'conflict', 'stream', missing->>'holder');
        end if;
      end if;
      if p ? 'unmounted' then
        perform from live l
        join events e on e.stream = l.sandbox_id and e.version = 1
        where e.data->'spec'->'volumes' @> jsonb_build_array(jsonb_build_object('volumeId', p->>'unmounted'));
        if found then return jsonb_build_object('outcome', 'conflict', 'stream', p->>'unmounted'); end if;
      end if;

      -- The key (stream, version) is the optimistic lock; versions have no gap, for each builds on a committed head.
      insert into events (tenant, stream, version, event_id, type, type_version, at, data, sealed, meta, prev_hash, hash)
      select tenant_, e.stream, e.version, e."eventId", e.type, e."typeVersion", e.at, e.data,
             decode(e.sealed, 'base64'), e.meta, decode(e."prevHash", 'hex'), decode(e.hash, 'hex')
      from jsonb_to_recordset(p->'events') as e (
        stream text, version integer, "eventId" uuid, type text, "typeVersion" smallint, at timestamptz,
        data jsonb, sealed text, meta jsonb, "prevHash" text, hash text
      )
      on conflict (stream, version) do nothing;
      get diagnostics n = row_count;
      if n < jsonb_array_length(p->'events') then
        select g.stream into reason
        from jsonb_to_recordset(p->'events') as g (stream text, version integer, "eventId" uuid)
        join events e on e.stream = g.stream and e.version = g.version
        where e.event_id <> g."eventId"
        limit 1;
        return jsonb_build_object('outcome', 'conflict', 'stream', reason);
      end if;

      -- Cancels and consumes first, so that a handler may set the same key anew.
      if p ? 'cancel' then
        delete from timers where key in (select jsonb_array_elements_text(p->'cancel'));
      end if;
      if p ? 'consume' then
        -- The generation is the fence: a timer that was set again since it fired stays.
        delete from timers
        where (key, generation) in (
          select c.key, c.generation from jsonb_to_recordset(p->'consume') as c (key text, generation bigint)
        );
      end if;
      if p ? 'set' then
        insert into timers (key, tenant, due, kind, payload)
        select t.key, tenant_, clock_timestamp() + t."afterMs" * interval '1 millisecond', t.kind, t.payload
        from jsonb_to_recordset(p->'set') as t (key text, "afterMs" double precision, kind text, payload jsonb)
        on conflict (key) do update
        set tenant = excluded.tenant, generation = nextval('timers_generation'), due = excluded.due,
            kind = excluded.kind, payload = excluded.payload, attempts = 0;
      end if;

      -- Always in this order: worker, tenant.
      if p ? 'giveBack' then
        -- What the sandboxes had. Nothing reserved is not an error: a release may come twice.
        with gone as (
          delete from reservations
          where sandbox_id in (select jsonb_array_elements_text(p->'giveBack'))
          returning tenant, worker_id, cpu_millis, memory_bytes, disk_bytes
        ), worker as (
          update workers w
          set reserved_cpu_millis = reserved_cpu_millis - g.cpu_millis,
              reserved_memory_bytes = reserved_memory_bytes - g.memory_bytes,
              reserved_disk_bytes = reserved_disk_bytes - g.disk_bytes
          from (
            select worker_id, sum(cpu_millis) as cpu_millis, sum(memory_bytes) as memory_bytes,
                   sum(disk_bytes) as disk_bytes
            from gone group by worker_id
          ) g
          where w.worker_id = g.worker_id
          returning w.worker_id
        )
        update tenants t
        set used_sandboxes = used_sandboxes - g.sandboxes,
            used_cpu_millis = used_cpu_millis - g.cpu_millis,
            used_memory_bytes = used_memory_bytes - g.memory_bytes,
            used_disk_bytes = used_disk_bytes - g.disk_bytes
        -- The join pulls worker before the tenant's row is locked.
        from (
          select gone.tenant, count(*) as sandboxes, sum(cpu_millis) as cpu_millis, sum(memory_bytes) as memory_bytes,
                 sum(disk_bytes) as disk_bytes
          from gone left join worker on worker.worker_id = gone.worker_id
          group by gone.tenant
        ) g
        where t.tenant = g.tenant;
      end if;
      if p ? 'reserve' then
        -- Of one worker. Conditional updates, each on the row that it locks: no two appends take the same bytes.
        select min(r."workerId") as worker_id, count(*) as sandboxes, sum(r."cpuMillis") as cpu_millis,
               sum(r."memoryBytes") as memory_bytes, sum(r."diskBytes") as disk_bytes
        into sums
        from jsonb_to_recordset(p->'reserve') as r (
          "workerId" text, "cpuMillis" bigint, "memoryBytes" bigint, "diskBytes" bigint
        );
        update workers
        set reserved_cpu_millis = reserved_cpu_millis + sums.cpu_millis,
            reserved_memory_bytes = reserved_memory_bytes + sums.memory_bytes,
            reserved_disk_bytes = reserved_disk_bytes + sums.disk_bytes
        where worker_id = sums.worker_id and state = 'active'
          and reserved_cpu_millis + sums.cpu_millis <= capacity_cpu_millis * cpu_factor
          and reserved_memory_bytes + sums.memory_bytes <= capacity_memory_bytes
          and reserved_disk_bytes + sums.disk_bytes <= capacity_disk_bytes;
        if not found then return '{"outcome": "no-capacity", "of": "worker"}'; end if;
        -- A tenant that nobody has given a quota has none.
        insert into tenants as t (tenant, used_sandboxes, used_cpu_millis, used_memory_bytes, used_disk_bytes)
        values (tenant_, sums.sandboxes, sums.cpu_millis, sums.memory_bytes, sums.disk_bytes)
        on conflict (tenant) do update
        set used_sandboxes = t.used_sandboxes + excluded.used_sandboxes,
            used_cpu_millis = t.used_cpu_millis + excluded.used_cpu_millis,
            used_memory_bytes = t.used_memory_bytes + excluded.used_memory_bytes,
            used_disk_bytes = t.used_disk_bytes + excluded.used_disk_bytes
        where (t.quota_sandboxes is null or t.used_sandboxes + excluded.used_sandboxes <= t.quota_sandboxes)
          and (t.quota_cpu_millis is null or t.used_cpu_millis + excluded.used_cpu_millis <= t.quota_cpu_millis)
          and (t.quota_memory_bytes is null or t.used_memory_bytes + excluded.used_memory_bytes <= t.quota_memory_bytes)
          and (t.quota_disk_bytes is null or t.used_disk_bytes + excluded.used_disk_bytes <= t.quota_disk_bytes);
        if not found then return full_tenant(tenant_); end if;
        insert into reservations (sandbox_id, tenant, worker_id, cpu_millis, memory_bytes, disk_bytes)
        select r."sandboxId", tenant_, r."workerId", r."cpuMillis", r."memoryBytes", r."diskBytes"
        from jsonb_to_recordset(p->'reserve') as r (
          "sandboxId" text, "workerId" text, "cpuMillis" bigint, "memoryBytes" bigint, "diskBytes" bigint
        );
      end if;

      if p ? 'ended' then
        -- May come twice, or for an exec that never had a slot.
        delete from exec_slots where exec_id in (select jsonb_array_elements_text(p->'ended'));
      end if;
      if p ? 'started' then
        -- Only where there is a quota do appends wait for each other, so that two never take the last slot both.
        perform from tenants where tenant = tenant_ and quota_execs is not null for no key update;
        wanted := jsonb_array_length(p->'started');
        -- A statement of its own: what others committed before they gave the lock away is counted.
        insert into exec_slots (exec_id, tenant)
        select jsonb_array_elements_text(p->'started'), tenant_
        where not exists (
          select from tenants
          where tenant = tenant_
            and quota_execs is not null
            and quota_execs < wanted + (select count(*) from exec_slots where tenant = tenant_)
        )
        on conflict (exec_id) do nothing;
        get diagnostics n = row_count;
        if n < wanted then return full_tenant(tenant_); end if;
      end if;
      return null;
    end $$;

    -- All or nothing, without an error for an expected outcome: those fill the server's log.
    create function append_commands(p jsonb) returns jsonb language plpgsql as $$
    declare
      refusal jsonb;
    begin
      refusal := write_commands(p);
      if refusal is not null then raise exception using errcode = 'SR001'; end if;
      return null;
    exception when sqlstate 'SR001' then
      -- Everything is undone: there is nothing to wait for the disk for.
      perform set_config('synchronous_commit', 'off', true);
      return refusal;
    end $$;

    revoke execute on function full_tenant(text), write_commands(jsonb), append_commands(jsonb) from public;
    grant execute on function full_tenant(text), write_commands(jsonb), append_commands(jsonb) to sandtrail_service;
  `
}
