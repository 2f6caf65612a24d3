import { Controller, Inject, UseFilters } from '@nestjs/common'
import { Ctx, MessagePattern, Payload } from '@nestjs/microservices'
import { z } from 'zod'
import { parseBody, reference } from '#libs/contract'
import { Rejected } from '#libs/domain'
import { ErrorsPassThrough, type JsonObject, type MessageContext } from '#libs/messaging'
import { SNAPSHOTTER, type Snapshotter } from './context.js'
import { findVisibleImageId } from './images.js'
import { getImage, listImages } from './images-table.js'
import { getSnapshot, listSnapshots } from './snapshots-table.js'

const page = {
  limit: z.int().min(1).max(1000).default(1000),
  cursor: reference(64).nullable().default(null),
}
const imageList = z.strictObject(page)
const imageGet = z.strictObject({ image: reference(256) })
const snapshotList = z.strictObject({ ...page, sandboxId: reference(64).nullable().default(null) })
const snapshotGet = z.strictObject({ snapshotId: reference(64) })

/** Lists and single ones, from the read models: a moment behind the streams. `cursor`: the last id of a page. */
@UseFilters(ErrorsPassThrough)
@Controller()
export class ReadsController {
  constructor(@Inject(SNAPSHOTTER) private readonly snapshotter: Snapshotter) {}

  @MessagePattern({ request: 'v1.*.req.image.list' })
  async images(@Payload() body: JsonObject, @Ctx() { tenant }: MessageContext): Promise<object> {
    return { images: await listImages(this.snapshotter.db, tenant, parseBody(imageList, body)) }
  }

  @MessagePattern({ request: 'v1.*.req.image.get' })
  async image(@Payload() body: JsonObject, @Ctx() { tenant }: MessageContext): Promise<object> {
    const { db } = this.snapshotter
    const found = await getImage(
      db,
      tenant,
      await findVisibleImageId(db, tenant, parseBody(imageGet, body).image),
    )
    if (found) return found
    throw new Rejected('IMAGE_NOT_FOUND', 'no image has this id')
  }

  @MessagePattern({ request: 'v1.*.req.snapshot.list' })
  async snapshots(@Payload() body: JsonObject, @Ctx() { tenant }: MessageContext): Promise<object> {
    return { snapshots: await listSnapshots(this.snapshotter.db, tenant, parseBody(snapshotList, body)) }
  }

  @MessagePattern({ request: 'v1.*.req.snapshot.get' })
  async snapshot(@Payload() body: JsonObject, @Ctx() { tenant }: MessageContext): Promise<object> {
    const { snapshotId } = parseBody(snapshotGet, body)
    const found = await getSnapshot(this.snapshotter.db, tenant, snapshotId)
    if (found) return found
    throw new Rejected('SNAPSHOT_NOT_FOUND', 'no snapshot has this id')
  }
}
