import { Controller, Inject, UseFilters } from '@nestjs/common'
import { Ctx, MessagePattern, Payload } from '@nestjs/microservices'
import { answerQueued } from '#libs/command-handling'
import { Rejected } from '#libs/domain'
import { ErrorsPassThrough, type JsonObject, type MessageContext } from '#libs/messaging'
import { commands } from './commands.js'
import { SNAPSHOTTER, type Snapshotter } from './context.js'

/** Commands of tenants, asked for (`req.`) or queued (`cmd.`). */
@UseFilters(ErrorsPassThrough)
@Controller()
export class CommandsController {
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

  @MessagePattern({ command: 'v1.*.cmd.image.*', durable: 'snapshotter' })
  queuedImage(@Payload() body: JsonObject, @Ctx() context: MessageContext): Promise<void> {
    return this.queued('image', body, context)
  }

  @MessagePattern({ command: 'v1.*.cmd.snapshot.*', durable: 'snapshotter' })
  queuedSnapshot(@Payload() body: JsonObject, @Ctx() context: MessageContext): Promise<void> {
    return this.queued('snapshot', body, context)
  }

  private queued(aggregate: string, body: JsonObject, context: MessageContext): Promise<void> {
    const name = `${aggregate}.${context.tokens.at(-1)}`
    return answerQueued(this.snapshotter.messaging, context, async () => {
      if (!commands.has(name)) throw new Rejected('INVALID_ARGUMENT', `there is no command ${name}`)
      return commands.run(this.snapshotter, name, body, context)
    })
  }
}
