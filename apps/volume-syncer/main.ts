import { configure, createLog, readConfig, runService, serviceSettings } from '#libs/service'
import { volumeSyncerConfig } from './config.js'
import { startVolumeSyncer } from './start.js'

const config = configure('volume-syncer', () => readConfig(volumeSyncerConfig))
const log = createLog('volume-syncer', config.SANDTRAIL_LOG_LEVEL)
await runService(log, serviceSettings(config), (operations) => startVolumeSyncer(config, log, operations))
