import { ForwardOnly } from './forward-only.js'

/** A sandbox may belong to an app. */
export class AppsOfSandboxes1790000000300 extends ForwardOnly {
  readonly name = 'AppsOfSandboxes1790000000300'
  protected readonly sql = `
    alter table sandboxes add column app_id text collate "C";
    create index sandboxes_by_app on sandboxes (app_id, sandbox_id desc) where app_id is not null;

    create or replace view audit_sandboxes as
      select s.sandbox_id, s.tenant, s.state, s.name, s.tags, s.image_id, s.image_ref, s.worker_id, s.epoch,
             s.created_at, s.started_at, s.ended_at, s.terminal_event, s.exit_code, s.reason, s.position,
             r.cpu_millis, r.memory_bytes, r.disk_bytes, s.app_id
      from sandboxes s left join reservations r on r.sandbox_id = s.sandbox_id;
  `
}
