import { Controller, Inject, UseFilters } from '@nestjs/common'
import { Ctx, MessagePattern, Payload } from '@nestjs/microservices'
import { answerQueued } from '#libs/command-handling'
import { Rejected } from '#libs/domain'
import { ErrorsPassThrough, type JsonObject, type MessageContext } from '#libs/messaging'
import { commands } from './commands.js'
import { VOLUME_SYNCER, type VolumeSyncer } from './context.js'
import { getVolume, listVersions, listVolumes } from './reads.js'

/** Commands of tenants, asked for (`req.`) or queued (`cmd.`), and the list of their volumes. */
@UseFilters(ErrorsPassThrough)
@Controller()
export class VolumeController {
  constructor(@Inject(VOLUME_SYNCER) private readonly syncer: VolumeSyncer) {}

  @MessagePattern({ request: 'v1.*.req.volume.create' })
  create(@Payload() body: JsonObject, @Ctx() context: MessageContext): Promise<object> {
    return commands.run(this.syncer, 'volume.create', body, context)
  }

  @MessagePattern({ request: 'v1.*.req.volume.commit' })
  commit(@Payload() body: JsonObject, @Ctx() context: MessageContext): Promise<object> {
    return commands.run(this.syncer, 'volume.commit', body, context)
  }

  @MessagePattern({ request: 'v1.*.req.volume.reload' })
  reload(@Payload() body: JsonObject, @Ctx() context: MessageContext): Promise<object> {
    return commands.run(this.syncer, 'volume.reload', body, context)
  }

  @MessagePattern({ request: 'v1.*.req.volume.remove' })
  remove(@Payload() body: JsonObject, @Ctx() context: MessageContext): Promise<object> {
    return commands.run(this.syncer, 'volume.remove', body, context)
  }

  @MessagePattern({ request: 'v1.*.req.volume.list' })
  list(@Ctx() { tenant }: MessageContext): Promise<object> {
    return listVolumes(this.syncer, tenant)
  }

  @MessagePattern({ request: 'v1.*.req.volume.get' })
  get(@Payload() body: JsonObject, @Ctx() { tenant }: MessageContext): Promise<object> {
    return getVolume(this.syncer, tenant, body)
  }

  @MessagePattern({ request: 'v1.*.req.volume.versions' })
  versions(@Payload() body: JsonObject, @Ctx() { tenant }: MessageContext): Promise<object> {
    return listVersions(this.syncer, tenant, body)
  }

  @MessagePattern({ command: 'v1.*.cmd.volume.*', durable: 'volume-syncer' })
  queued(@Payload() body: JsonObject, @Ctx() context: MessageContext): Promise<void> {
    return answerQueued(this.syncer.messaging, context, async () => {
      const name = `volume.${context.tokens.at(-1)}`
      if (!commands.has(name)) throw new Rejected('INVALID_ARGUMENT', `there is no command ${name}`)
      return commands.run(this.syncer, name, body, context)
    })
  }
}
