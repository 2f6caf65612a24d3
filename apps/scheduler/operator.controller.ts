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

  @MessagePattern({ request: 'v1.platform.req.tenant.create' })
  createTenant(@Payload() body: JsonObject, @Ctx() context: MessageContext): Promise<object> {
    return commands.run(this.scheduler, 'tenant.create', body, context)
  }

  @MessagePattern({ request: 'v1.platform.req.tenant.limit' })
  limitTenant(@Payload() body: JsonObject, @Ctx() context: MessageContext): Promise<object> {
    return commands.run(this.scheduler, 'tenant.limit', body, context)
  }

  @MessagePattern({ request: 'v1.platform.req.tenant.suspend' })
  suspendTenant(@Payload() body: JsonObject, @Ctx() context: MessageContext): Promise<object> {
    return commands.run(this.scheduler, 'tenant.suspend', body, context)
  }

  @MessagePattern({ request: 'v1.platform.req.tenant.resume' })
  resumeTenant(@Payload() body: JsonObject, @Ctx() context: MessageContext): Promise<object> {
    return commands.run(this.scheduler, 'tenant.resume', body, context)
  }

  @MessagePattern({ request: 'v1.platform.req.tenant.remove' })
  removeTenant(@Payload() body: JsonObject, @Ctx() context: MessageContext): Promise<object> {
    return commands.run(this.scheduler, 'tenant.remove', body, context)
  }

  @MessagePattern({ request: 'v1.platform.req.token.create' })
  createToken(@Payload() body: JsonObject, @Ctx() context: MessageContext): Promise<object> {
    return commands.run(this.scheduler, 'token.create', body, context)
  }

  @MessagePattern({ request: 'v1.platform.req.token.revoke' })
  revokeToken(@Payload() body: JsonObject, @Ctx() context: MessageContext): Promise<object> {
    return commands.run(this.scheduler, 'token.revoke', body, context)
  }
}
