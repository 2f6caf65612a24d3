import { Controller, Inject, UseFilters } from '@nestjs/common'
import { Ctx, MessagePattern, Payload } from '@nestjs/microservices'
import { answerQueued } from '#libs/command-handling'
import { Rejected } from '#libs/domain'
import { ErrorsPassThrough, type JsonObject, type MessageContext } from '#libs/messaging'
import { commands, runExec, withoutWait } from './commands.js'
import { SCHEDULER, type Scheduler } from './context.js'

/** Commands of tenants, asked for (`req.`) or queued (`cmd.`). */
@UseFilters(ErrorsPassThrough)
@Controller()
export class SandboxController {
  constructor(@Inject(SCHEDULER) private readonly scheduler: Scheduler) {}

  @MessagePattern({ request: 'v1.*.req.sandbox.create' })
  create(@Payload() body: JsonObject, @Ctx() context: MessageContext): Promise<object> {
    return commands.run(this.scheduler, 'sandbox.create', body, context)
  }

  @MessagePattern({ request: 'v1.*.req.sandbox.exec' })
  exec(@Payload() body: JsonObject, @Ctx() context: MessageContext): Promise<object> {
    return runExec(this.scheduler, body, context)
  }

  @MessagePattern({ request: 'v1.*.req.sandbox.signal' })
  signal(@Payload() body: JsonObject, @Ctx() context: MessageContext): Promise<object> {
    return commands.run(this.scheduler, 'sandbox.signal', body, context)
  }

  @MessagePattern({ request: 'v1.*.req.sandbox.tag' })
  tag(@Payload() body: JsonObject, @Ctx() context: MessageContext): Promise<object> {
    return commands.run(this.scheduler, 'sandbox.tag', body, context)
  }

  @MessagePattern({ request: 'v1.*.req.sandbox.name' })
  name(@Payload() body: JsonObject, @Ctx() context: MessageContext): Promise<object> {
    return commands.run(this.scheduler, 'sandbox.name', body, context)
  }

  @MessagePattern({ request: 'v1.*.req.sandbox.terminate' })
  terminate(@Payload() body: JsonObject, @Ctx() context: MessageContext): Promise<object> {
    return commands.run(this.scheduler, 'sandbox.terminate', body, context)
  }

  @MessagePattern({ command: 'v1.*.cmd.sandbox.*', durable: 'scheduler' })
  queued(@Payload() body: JsonObject, @Ctx() context: MessageContext): Promise<void> {
    return answerQueued(this.scheduler.messaging, context, async () => {
      const name = `sandbox.${context.tokens.at(-1)}`
      if (!commands.has(name)) throw new Rejected('INVALID_ARGUMENT', `there is no command ${name}`)
      // Whoever queues a command does not wait within it; re-sent as a request it is still the same command.
      const decided = name === 'sandbox.exec' ? withoutWait(body) : body
      return commands.run(this.scheduler, name, decided, context)
    })
  }
}
