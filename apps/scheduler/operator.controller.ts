import { Controller, Inject, UseFilters } from '@nestjs/common'
import { Ctx, MessagePattern, Payload } from '@nestjs/microservices'
import { ErrorsPassThrough, type JsonObject, type MessageContext } from '#libs/messaging'
import { commands } from './commands.js'
import { SCHEDULER, type Scheduler } from './context.js'

/**
 * Operators' commands. The tenant in these subjects is the platform: other accounts' requests carry their own tenant, so
 * none of theirs comes here.
 */
@UseFilters(ErrorsPassThrough)
@Controller()
export class OperatorController {
  constructor(@Inject(SCHEDULER) private readonly scheduler: Scheduler) {}

  @MessagePattern({ request: 'v1.platform.req.worker.cordon' })
  cordon(@Payload() body: JsonObject, @Ctx() context: MessageContext): Promise<object> {
    return commands.run(this.scheduler, 'worker.cordon', body, context)
  }

  @MessagePattern({ request: 'v1.platform.req.worker.uncordon' })
  uncordon(@Payload() body: JsonObject, @Ctx() context: MessageContext): Promise<object> {
    return commands.run(this.scheduler, 'worker.uncordon', body, context)
  }

  @MessagePattern({ request: 'v1.platform.req.worker.drain' })
  drain(@Payload() body: JsonObject, @Ctx() context: MessageContext): Promise<object> {
    return commands.run(this.scheduler, 'worker.drain', body, context)
  }
}
