/** Wiring of the gateway: controllers over the parts that `start` made. */

import { type DynamicModule, Module } from '@nestjs/common'
import { APP_FILTER, APP_GUARD } from '@nestjs/core'
import { Gateway } from './gateway.js'
import { AppsController } from './http/apps.controller.js'
import { AuthGuard } from './http/auth.js'
import { DeadLettersController } from './http/dead-letters.controller.js'
import { ErrorFilter } from './http/error-filter.js'
import { EventsController } from './http/events.controller.js'
import { ExecsController } from './http/execs.controller.js'
import { ImagesController } from './http/images.controller.js'
import { PruneController } from './http/prune.controller.js'
import { RefusalsController } from './http/refusals.controller.js'
import { SandboxesController } from './http/sandboxes.controller.js'
import { SystemController } from './http/system.controller.js'
import { TenantsController } from './http/tenants.controller.js'
import { TokensController } from './http/tokens.controller.js'
import { VolumesController } from './http/volumes.controller.js'
import { WorkersController } from './http/workers.controller.js'
import { ReadsController } from './reads/reads.controller.js'

export const CONTROLLERS = [
  SandboxesController,
  ExecsController,
  ImagesController,
  VolumesController,
  AppsController,
  EventsController,
  TokensController,
  TenantsController,
  RefusalsController,
  SystemController,
  WorkersController,
  DeadLettersController,
  PruneController,
]

@Module({})
export class GatewayModule {
  static with(gateway: Gateway): DynamicModule {
    return {
      module: GatewayModule,
      controllers: [...CONTROLLERS, ReadsController],
      providers: [
        { provide: Gateway, useValue: gateway },
        { provide: APP_GUARD, useFactory: () => new AuthGuard(gateway) },
        { provide: APP_FILTER, useFactory: () => new ErrorFilter(gateway.log) },
      ],
    }
  }
}
