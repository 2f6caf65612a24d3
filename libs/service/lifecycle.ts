/** Start and stop of a service process: ready file, signals, a last-resort handler. */

import { rmSync, writeFileSync } from 'node:fs'
import type { Log } from './log.js'

/** A graceful stop has this long; what is in flight is then taken up again by its owner's retries. */
const STOP_MS_MAX = 30_000

export interface Running {
  stop(): Promise<void>
}

/**
 * Runs `start`, tells that the service is ready, and stops it once on SIGTERM or SIGINT.
 * A failure to start, or an unhandled rejection, ends the process with code 1: the supervisor starts it again.
 */
export async function runService(
  log: Log,
  readyFile: string | undefined,
  start: () => Promise<Running>,
): Promise<void> {
  process.on('unhandledRejection', (error) => {
    log.fatal({ err: error }, 'unhandled rejection')
    process.exit(1)
  })
  let running: Running
  try {
    running = await start()
  } catch (error) {
    log.fatal({ err: error }, 'cannot start')
    process.exit(1)
  }
  if (readyFile) writeFileSync(readyFile, `${process.pid}\n`)
  log.info('ready')

  let stopping = false
  const stop = async () => {
    if (stopping) return
    stopping = true
    log.info('stopping')
    setTimeout(() => process.exit(1), STOP_MS_MAX).unref()
    if (readyFile) rmSync(readyFile, { force: true })
    await running.stop()
    log.info('stopped')
    process.exit(0)
  }
  process.on('SIGTERM', stop)
  process.on('SIGINT', stop)
}
