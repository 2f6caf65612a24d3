import { configure, createLog, readConfig, runService, serviceSettings } from '#libs/service'
import { schedulerConfig } from './config.js'
import { startScheduler } from './start.js'

const config = configure('scheduler', () => readConfig(schedulerConfig))
const log = createLog('scheduler', config.SANDTRAIL_LOG_LEVEL)
await runService(log, serviceSettings(config), (operations) => startScheduler(config, log, operations))
