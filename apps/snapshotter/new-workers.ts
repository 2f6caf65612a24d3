/** A worker that joined later gets every imported image too. Level-triggered: looked at again and again. */

import { type ImageId, imageAggregate, SandtrailError, toErrorBody } from '#libs/domain'
import { load, type Queryable } from '#libs/event-store'
import type { Snapshotter } from './context.js'
import { replicate, workersWithout } from './replicas.js'

const LOOK_MS = 10_000

const NAMED_IMAGES = `
  select tenant, holder as "imageId"
  from claims
  where kind = 'image-name'
  order by holder
`

/** Only what has a name is brought along: an image whose name moved on serves those that know its id where it lies. */
async function namedImages(db: Queryable): Promise<{ tenant: string; imageId: ImageId }[]> {
  const { rows } = await db.query<{ tenant: string; imageId: ImageId }>(NAMED_IMAGES)
  return rows
}

export class NewWorkers {
  private timer: NodeJS.Timeout | undefined
  private looking: Promise<void> = Promise.resolve()
  private stopped = false

  constructor(private readonly snapshotter: Snapshotter) {}

  start(): void {
    this.timer = setTimeout(() => {
      this.looking = this.look().finally(() => {
        if (!this.stopped) this.start()
      })
    }, LOOK_MS)
  }

  async stop(): Promise<void> {
    this.stopped = true
    clearTimeout(this.timer)
    await this.looking
  }

  /** Never rejects. */
  private async look(): Promise<void> {
    const { db, log } = this.snapshotter
    try {
      for (const { tenant, imageId } of await namedImages(db)) {
        const { state } = await load(db, imageAggregate, imageId, { tenant })
        if (state.status !== 'ready' || state.source.kind !== 'import') continue
        for (const workerId of await workersWithout(this.snapshotter, state)) {
          await replicate(this.snapshotter, tenant, imageId, state, workerId)
        }
      }
    } catch (error) {
      // A worker that has just gone is nothing to be told of.
      if (!(error instanceof SandtrailError && error.retryable))
        log.warn({ error: toErrorBody(error) }, 'an image could not be brought to a new worker')
    }
  }
}
