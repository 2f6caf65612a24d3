/**
 * Follows the ends of sandboxes: what a worker staged of their volumes gets a commit, whose timer is set in the
 * transaction that moves the cursor. With the syncer down it waits in the ledger.
 */

import { KNOWN_EVENTS, SANDBOX_TERMINAL_EVENTS, type StagedVolume } from '#libs/domain'
import { Subscription, setTimers } from '#libs/event-store'
import { commitTimer } from './commits.js'
import type { VolumeSyncer } from './context.js'

export function stagedVolumes(syncer: VolumeSyncer): Subscription {
  return new Subscription({
    db: syncer.db,
    name: 'volume-syncer-staged',
    types: [...SANDBOX_TERMINAL_EVENTS, 'SandboxEndReportedLate'],
    knows: KNOWN_EVENTS,
    log: syncer.log,
    async handle(tx, { tenant, data }) {
      const { staged = [] } = data as { staged?: StagedVolume[] }
      if (staged.length === 0) return
      await setTimers(
        tx,
        tenant,
        staged.map(({ volumeId, commitId }) => commitTimer(volumeId, commitId, null)),
      )
    },
  })
}
