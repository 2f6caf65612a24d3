import { Controller, Inject, UseFilters } from '@nestjs/common'
import { Ctx, EventPattern, MessagePattern, Payload } from '@nestjs/microservices'
import { parseHeartbeat, parseReport } from '#libs/contract'
import { EXEC_TERMINAL_EVENTS, Rejected, type WorkerId } from '#libs/domain'
import { ErrorsPassThrough, type JsonObject, type MessageContext } from '#libs/messaging'
import { correlate } from '#libs/service'
import { SCHEDULER, type Scheduler } from './context.js'
import { Heartbeats } from './heartbeat.js'
import { handleReport } from './reports.js'

/** What workers say. Who a worker is comes from the subject, which its NATS key alone may publish on. */
@UseFilters(ErrorsPassThrough)
@Controller()
export class WorkerController {
  constructor(
    @Inject(SCHEDULER) private readonly scheduler: Scheduler,
    @Inject(Heartbeats) private readonly heartbeats: Heartbeats,
  ) {}

  @MessagePattern({ request: 'ctl.*.heartbeat' })
  heartbeat(@Payload() body: JsonObject, @Ctx() { workerId }: MessageContext): Promise<object> {
    const heartbeat = parseHeartbeat(body)
    if (heartbeat.workerId !== workerId) {
      throw new Rejected('PERMISSION_DENIED', `${workerId} cannot speak for ${heartbeat.workerId}`)
    }
    return this.heartbeats.handle(heartbeat)
  }

  @MessagePattern({ request: 'ctl.*.report' })
  report(@Payload() body: JsonObject, @Ctx() { workerId }: MessageContext): Promise<object> {
    const report = parseReport(body)
    return correlate({ tenant: report.tenant }, () =>
      handleReport(this.scheduler, workerId as WorkerId, report),
    )
  }

  /** Ends that another scheduler has recorded wake the callers that wait here. */
  @EventPattern({ event: 'v1.*.evt.exec.>' })
  execEvent(@Ctx() { tokens }: MessageContext): void {
    const [, , , , execId, type] = tokens
    if ((EXEC_TERMINAL_EVENTS as readonly string[]).includes(type ?? ''))
      this.scheduler.waiters.ended(execId!)
  }
}
