import { ForwardOnly } from './forward-only.js'

/** The scheduler's own index of execs that have not ended, fed from the ledger: what to deliver again, what to end. */
export class OpenExecs1790000000020 extends ForwardOnly {
  readonly name = 'OpenExecs1790000000020'
  protected readonly sql = `
    create table open_execs (
      exec_id text primary key,
      tenant text not null,
      sandbox_id text not null,
      started boolean not null default false
    );
    create index open_execs_by_sandbox on open_execs (sandbox_id);
    grant select, insert, update, delete, truncate on open_execs to sandtrail_service;
  `
}
