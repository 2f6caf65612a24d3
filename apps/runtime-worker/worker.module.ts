import { Module } from '@nestjs/common'

/**
 * The worker has no controllers: its subjects carry its id, which is known only at run time, so its handlers are plain
 * functions given to the transport (worker.ts). Nest owns start and stop of that transport.
 */
@Module({})
export class WorkerModule {}
