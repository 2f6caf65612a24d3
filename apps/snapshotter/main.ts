import { createLog, readConfig, runService } from '#libs/service'
import { snapshotterConfig } from './config.js'
import { startSnapshotter } from './start.js'

const config = readConfig(snapshotterConfig)
const log = createLog('snapshotter', config.SANDTRAIL_LOG_LEVEL)
await runService(log, config.SANDTRAIL_READY_FILE, () => startSnapshotter(config, log))
