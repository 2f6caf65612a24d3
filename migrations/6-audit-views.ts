import { ForwardOnly } from './forward-only.js'

/** The auditor's SQL: views over the log, documented in docs/audit-sql.md. They run with their owner's rights. */
export class AuditViews1790000000006 extends ForwardOnly {
  readonly name = 'AuditViews1790000000006'
  protected readonly sql = `
    create function aggregate_of(stream text) returns text language sql immutable parallel safe as $$
      select case
        when stream like 'sb-%' then 'sandbox'
        when stream like 'ex-%' then 'exec'
        when stream like 'im-%' then 'image'
        when stream like 'sn-%' then 'snapshot'
        when stream like 'vo-%' then 'volume'
        else split_part(stream, ':', 1)
      end
    $$;

    create view audit_events as
      select l.position, e.at, e.tenant, e.stream, aggregate_of(e.stream) as aggregate, e.version, e.type,
             e.type_version, e.meta ->> 'actor' as actor, e.meta ->> 'commandId' as command_id,
             e.meta ->> 'causationId' as causation_id, e.meta ->> 'correlationId' as correlation_id,
             e.meta ->> 'workerId' as worker_id, (e.meta ->> 'epoch')::integer as epoch,
             e.data, e.sealed is not null as has_sealed, e.event_id, encode(e.hash, 'hex') as hash
      from events e left join ledger l on l.seq = e.seq;

    create view audit_commands as
      select at, tenant, command_id, verb, encode(hash, 'hex') as body_hash, rejected, outcome, expires_at
      from commands;

    create view audit_sandboxes as
      select s.sandbox_id, s.tenant, s.state, s.name, s.tags, s.image_id, s.image_ref, s.worker_id, s.epoch,
             s.created_at, s.started_at, s.ended_at, s.terminal_event, s.exit_code, s.reason, s.position,
             r.cpu_millis, r.memory_bytes, r.disk_bytes
      from sandboxes s left join reservations r on r.sandbox_id = s.sandbox_id;

    create view audit_checkpoints as
      select size, encode(root, 'hex') as root, note, term, at from checkpoints;

    create view audit_workers as
      select worker_id, state, capacity_cpu_millis, capacity_memory_bytes, capacity_disk_bytes, cpu_factor,
             reserved_cpu_millis, reserved_memory_bytes, reserved_disk_bytes, heartbeat_at, registered_at
      from workers;

    create view audit_tokens as
      select id, tenant, name, created_at, revoked_at from tokens;

    grant select on audit_events, audit_commands, audit_sandboxes, audit_checkpoints, audit_workers, audit_tokens
      to sandtrail_auditor, sandtrail_service;
  `
}
