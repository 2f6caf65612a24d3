import 'reflect-metadata'
import { configure, createLog, runService } from '#libs/service'
import { gatewayConfig } from './config.js'
import { startGateway } from './start.js'

const config = configure('gateway', gatewayConfig)
const log = createLog('gateway', config.logLevel)
await runService(log, config.service, async (operations) => {
  const running = await startGateway(config, log, operations)
  log.info({ url: running.url, modalPort: running.modalPort }, 'listening')
  return running
})
