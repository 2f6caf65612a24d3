import { Controller, Inject, UseFilters } from '@nestjs/common'
import { Ctx, MessagePattern, Payload } from '@nestjs/microservices'
import { answerQueued } from '#libs/command-handling'
import { Rejected } from '#libs/domain'
import { ErrorsPassThrough, type JsonObject, type MessageContext } from '#libs/messaging'
import { commands } from './commands.js'
import { SNAPSHOTTER, type Snapshotter } from './context.js'
import { listImages } from './image-list.js'

/** Commands of tenants on images and snapshots, asked for (`req.`) or queued (`cmd.`), and the list of images. */
@UseFilters(ErrorsPassThrough)
@Controller()
export class ImageController {
  constructor(@Inject(SNAPSHOTTER) private readonly snapshotter: Snapshotter) {}

  @MessagePattern({ request: 'v1.*.req.image.import' })
  importImage(@Payload() body: JsonObject, @Ctx() context: MessageContext): Promise<object> {
    return commands.run(this.snapshotter, 'image.import', body, context)
  }

  @MessagePattern({ request: 'v1.*.req.image.remove' })
  removeImage(@Payload() body: JsonObject, @Ctx() context: MessageContext): Promise<object> {
    return commands.run(this.snapshotter, 'image.remove', body, context)
  }

  @MessagePattern({ request: 'v1.*.req.snapshot.create' })
  createSnapshot(@Payload() body: JsonObject, @Ctx() context: MessageContext): Promise<object> {
    return commands.run(this.snapshotter, 'snapshot.create', body, context)
  }

  @MessagePattern({ request: 'v1.*.req.image.list' })
  list(@Ctx() { tenant }: MessageContext): Promise<object> {
    return listImages(this.snapshotter.db, tenant)
  }

  @MessagePattern({ command: 'v1.*.cmd.image.*', durable: 'snapshotter' })
  queuedImage(@Payload() body: JsonObject, @Ctx() context: MessageContext): Promise<void> {
    return this.queued(body, context)
  }

  @MessagePattern({ command: 'v1.*.cmd.snapshot.*', durable: 'snapshotter-snapshots' })
  queuedSnapshot(@Payload() body: JsonObject, @Ctx() context: MessageContext): Promise<void> {
    return this.queued(body, context)
  }

  private queued(body: JsonObject, context: MessageContext): Promise<void> {
    return answerQueued(this.snapshotter.messaging, context, async () => {
      const name = context.tokens.slice(-2).join('.')
      if (!commands.has(name)) throw new Rejected('INVALID_ARGUMENT', `there is no command ${name}`)
      return commands.run(this.snapshotter, name, body, context)
    })
  }
}
