import { type DynamicModule, Module } from '@nestjs/common'
import { VOLUME_SYNCER, type VolumeSyncer } from './context.js'
import { VolumeController } from './volume.controller.js'

@Module({})
export class VolumeSyncerModule {
  static with(syncer: VolumeSyncer): DynamicModule {
    return {
      module: VolumeSyncerModule,
      controllers: [VolumeController],
      providers: [{ provide: VOLUME_SYNCER, useValue: syncer }],
    }
  }
}
