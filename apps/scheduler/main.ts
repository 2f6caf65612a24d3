import { createLog, readConfig, runService } from '#libs/service'
import { schedulerConfig } from './config.js'
import { startScheduler } from './start.js'

const config = readConfig(schedulerConfig)
const log = createLog('scheduler', config.SANDTRAIL_LOG_LEVEL)
await runService(log, config.SANDTRAIL_READY_FILE, () => startScheduler(config, log))
