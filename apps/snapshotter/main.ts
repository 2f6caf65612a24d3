import { configure, createLog, readConfig, runService, serviceSettings } from '#libs/service'
import { snapshotterConfig } from './config.js'
import { startSnapshotter } from './start.js'

const config = configure('snapshotter', () => readConfig(snapshotterConfig))
const log = createLog('snapshotter', config.SANDTRAIL_LOG_LEVEL)
await runService(log, serviceSettings(config), (operations) => startSnapshotter(config, log, operations))
