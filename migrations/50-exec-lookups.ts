import { ForwardOnly } from './forward-only.js'

/** The gateway finds a sandbox's execs, and an exec by the beginning of its id, in the log itself: no lag, no table. */
export class ExecLookups1790000000050 extends ForwardOnly {
  readonly name = 'ExecLookups1790000000050'
  protected readonly sql = `
    create index execs_by_sandbox on events ((data #>> '{spec,sandboxId}')) where type = 'ExecRequested';
    -- text_pattern_ops: so that a prefix is found whatever the database's collation.
    create index execs_by_id on events (stream text_pattern_ops) where type = 'ExecRequested';
  `
}
