/** The named places at which a test may break a service, in the order in which a life passes them. */

const DECIDING = [
  /** A command was read and is not yet decided. */
  'intake-received',
  /** Everything is inserted, and not committed. */
  'append-uncommitted',
  /** Committed, and nobody has been told. */
  'intake-committed',
  /** The outcome of a queued command is told, and the broker does not know that it was handled. */
  'intake-answered',
] as const

const SCHEDULER = [
  'dispatch-begun',
  'dispatch-sent',
  /** Facts are appended, and the worker has not heard it. */
  'report-recorded',
  /** The ledger has positions that the trail file does not have. */
  'sequencer-placed',
  'publish-begun',
  /** The broker has them, and the cursor has not moved. */
  'publish-done',
  'worker-lost',
] as const

const WORKER = [
  'create-recorded',
  'create-begun',
  'create-sync',
  'create-root',
  'create-slots',
  'create-volumes',
  'create-cgroup',
  'create-network',
  'create-bundle',
  'create-run',
  'create-agent',
  'create-bind',
  'create-done',
  'exec-intended',
  'exec-before-send',
  'exec-sent',
  'exec-exit-recorded',
  'report-before-send',
  'report-accepted',
  'ending-written',
  'ending-killed',
  'ending-staged',
  'ending-reported',
  'undo-container',
  'undo-cgroup',
  'undo-network',
  'undo-slots',
  'undo-root',
  'record-removed',
  'snapshot-synced',
  'snapshot-taken',
  'commit-staged',
  'commit-done',
] as const

/** By the app that passes them. */
export const FAILPOINTS = {
  scheduler: [...DECIDING, ...SCHEDULER],
  'runtime-worker': WORKER,
  snapshotter: [
    'intake-received',
    'append-uncommitted',
    'intake-committed',
    'snapshot-answered',
    'snapshot-completed',
  ],
  'volume-syncer': [
    'intake-received',
    'append-uncommitted',
    'intake-committed',
    'commit-answered',
    'commit-recorded',
  ],
} as const

export type Failpoint = (typeof FAILPOINTS)[keyof typeof FAILPOINTS][number]

/**
 *   kill    the process is gone, as by `kill -9`
 *   stop    it stands still until somebody sends SIGCONT: a suspended host, a zombie that comes back
 *   throw   an error that nobody foresaw
 *   hang    it stands still for good, its connections open: whoever watches it has to end it
 */
export const ACTIONS = ['kill', 'stop', 'throw', 'hang'] as const
export type Action = (typeof ACTIONS)[number]
