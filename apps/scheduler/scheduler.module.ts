import { type DynamicModule, Module } from '@nestjs/common'
import { AppController } from './app.controller.js'
import { SCHEDULER, type Scheduler } from './context.js'
import { Heartbeats } from './heartbeat.js'
import { OperatorController } from './operator.controller.js'
import { SandboxController } from './sandbox.controller.js'
import { WorkerController } from './worker.controller.js'

@Module({})
export class SchedulerModule {
  static with(scheduler: Scheduler, heartbeats: Heartbeats): DynamicModule {
    return {
      module: SchedulerModule,
      controllers: [SandboxController, AppController, WorkerController, OperatorController],
      providers: [
        { provide: SCHEDULER, useValue: scheduler },
        { provide: Heartbeats, useValue: heartbeats },
      ],
    }
  }
}
