import { Controller, Inject, UseFilters } from '@nestjs/common'
import { Ctx, MessagePattern, Payload } from '@nestjs/microservices'
import { answerQueued } from '#libs/command-handling'
import { Rejected } from '#libs/domain'
import { ErrorsPassThrough, type JsonObject, type MessageContext } from '#libs/messaging'
import { commands } from './commands.js'
import { SCHEDULER, type Scheduler } from './context.js'

/** Commands of tenants about their apps, asked for (`req.`) or queued (`cmd.`). */
@UseFilters(ErrorsPassThrough)
@Controller()
export class AppController {
  constructor(@Inject(SCHEDULER) private readonly scheduler: Scheduler) {}

  @MessagePattern({ request: 'v1.*.req.app.create' })
  create(@Payload() body: JsonObject, @Ctx() context: MessageContext): Promise<object> {
    return commands.run(this.scheduler, 'app.create', body, context)
  }

  @MessagePattern({ request: 'v1.*.req.app.stop' })
  stop(@Payload() body: JsonObject, @Ctx() context: MessageContext): Promise<object> {
    return commands.run(this.scheduler, 'app.stop', body, context)
  }

  @MessagePattern({ request: 'v1.*.req.app.heartbeat' })
  heartbeat(@Payload() body: JsonObject, @Ctx() context: MessageContext): Promise<object> {
    return commands.run(this.scheduler, 'app.heartbeat', body, context)
  }

  @MessagePattern({ command: 'v1.*.cmd.app.*', durable: 'scheduler' })
  queued(@Payload() body: JsonObject, @Ctx() context: MessageContext): Promise<void> {
    return answerQueued(this.scheduler.messaging, context, async () => {
      const name = `app.${context.tokens.at(-1)}`
      if (!commands.has(name)) throw new Rejected('INVALID_ARGUMENT', `there is no command ${name}`)
      return commands.run(this.scheduler, name, body, context)
    })
  }
}
