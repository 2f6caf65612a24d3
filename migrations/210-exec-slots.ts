import { ForwardOnly } from './forward-only.js'

/** Open execs are counted from their slots: a counter in the tenant's row made all execs of a tenant take turns. */
export class ExecSlots1790000000210 extends ForwardOnly {
  readonly name = 'ExecSlots1790000000210'
  protected readonly sql = `
    create index exec_slots_by_tenant on exec_slots (tenant);
    create or replace view audit_tenants as
      select tenant, created_at,
             quota_sandboxes, quota_execs, quota_cpu_millis, quota_memory_bytes, quota_disk_bytes,
             used_sandboxes,
             (select count(*)::integer from exec_slots s where s.tenant = t.tenant) as used_execs,
             used_cpu_millis, used_memory_bytes, used_disk_bytes,
             commands_per_second, commands_burst, requests_per_second, requests_burst,
             nats_connections, nats_subscriptions, nats_payload_bytes
      from tenants t;
    alter table tenants drop column used_execs;
  `
}
