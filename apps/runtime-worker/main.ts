import { configure, createLog, runService, serviceSettings } from '#libs/service'
import { readWorkerConfig } from './config.js'
import { startWorker } from './worker.js'

const config = configure('runtime-worker', readWorkerConfig)
const log = createLog('runtime-worker', config.SANDTRAIL_LOG_LEVEL)
await runService(log, serviceSettings(config), (operations) => startWorker(config, log, operations))
