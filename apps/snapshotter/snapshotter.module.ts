import { type DynamicModule, Module } from '@nestjs/common'
import { CommandsController } from './commands.controller.js'
import { SNAPSHOTTER, type Snapshotter } from './context.js'
import { ReadsController } from './reads.controller.js'

@Module({})
export class SnapshotterModule {
  static with(snapshotter: Snapshotter): DynamicModule {
    return {
      module: SnapshotterModule,
      controllers: [CommandsController, ReadsController],
      providers: [{ provide: SNAPSHOTTER, useValue: snapshotter }],
    }
  }
}
