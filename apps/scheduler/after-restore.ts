/**
 * Run once by `sandtrail-admin restore`, before any service: says in a log that was set back that it was, and ends the
 * sandboxes that it knows as living. What they did since the backup is not recorded, so none of it may go on; a worker
 * that still has them is told by the answer to its first heartbeat to end them, and those that the log never heard of.
 *
 *   SANDTRAIL_DATABASE_URL=... node dist/apps/scheduler/after-restore.js '{"position","takenAt","lostEvents"}'
 *   prints {"ended": how many sandboxes}
 */

import { randomUUID } from 'node:crypto'
import { z } from 'zod'
import { handleCommand } from '#libs/command-handling'
import type { SandboxId } from '#libs/domain'
import { listAllLive, openDatabase } from '#libs/event-store'
import { createLog } from '#libs/service'
import { declareLost } from './lost-sandboxes.js'
import { systemCommand } from './system-command.js'

const restored = z.strictObject({
  /** The last position of the backup. */
  position: z.int().min(0),
  takenAt: z.iso.datetime(),
  /** How many events of later positions the trail file at hand knows; null when there was none. */
  lostEvents: z.int().min(0).nullable(),
})

const url = process.env.SANDTRAIL_DATABASE_URL
if (url === undefined) throw new Error('SANDTRAIL_DATABASE_URL is not set')
const told = restored.parse(JSON.parse(process.argv[2] ?? '{}'))
const db = openDatabase({ url, max: 2, name: 'after-restore' })
const scheduler = { db, onCommitted: () => {}, log: createLog('after-restore', 'warn') }
try {
  const id = randomUUID()
  await handleCommand(scheduler, systemCommand('platform', 'log.restore', id, told), async () => ({
    outcome: {},
    writes: [
      {
        stream: `restore:${id}`,
        expectedVersion: 0,
        events: [{ type: 'LogRestored', typeVersion: 1, data: told }],
      },
    ],
  }))
  const live = await listAllLive(db)
  const reason = `the log was restored as of ${told.takenAt}: what became of it since is not recorded`
  for (const { sandboxId, tenant, epoch } of live) {
    await declareLost(scheduler, { sandboxId: sandboxId as SandboxId, tenant, epoch, reason })
  }
  process.stdout.write(`${JSON.stringify({ ended: live.length })}\n`)
} finally {
  await db.end()
}
