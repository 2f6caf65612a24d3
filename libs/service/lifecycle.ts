/** Start and stop of a service process: ready file, signals, a last-resort handler. */

import { rmSync, writeFileSync } from 'node:fs'
import { Rejected, SandtrailError } from '#libs/domain'
import { giveHeapRoom } from './heap.js'
import { createLog, type Log } from './log.js'
import { Operations } from './operations.js'
import { startTracing } from './tracing.js'

/** A graceful stop has this long; what is in flight is then taken up again by its owner's retries. */
const STOP_MS_MAX = 30_000

export interface Running {
  stop(): Promise<void>
}

export interface ServiceSettings {
  readyFile: string | undefined
  /** Where metrics and probes are served, see operations.ts. */
  metrics: { host: string; port: number }
}

/**
 * The configuration that `read` finds. When it is not usable the process ends, with one line that says all that is
 * wrong: a stack would only hide it.
 */
export function configure<T>(service: string, read: () => T): T {
  try {
    return read()
  } catch (error) {
    return refuseToStart(createLog(service, 'info'), error)
  }
}

/** The reason is in the message, where people look; its causes are in `err`. */
function refuseToStart(log: Log, error: unknown): never {
  const { code, message, hint } = error as { code?: unknown; message?: string; hint?: string | null }
  const isOurs = error instanceof SandtrailError || error instanceof Rejected
  const fields = error instanceof SandtrailError && error.code === 'CONFIG_INVALID' ? {} : { err: error }
  log.fatal({ code, ...fields }, `cannot start: ${message}${isOurs && hint ? `; to do: ${hint}` : ''}`)
  process.exit(1)
}

/**
 * Runs `start`, tells that the service is ready, and stops it once on SIGTERM or SIGINT.
 * A failure to start, or an unhandled rejection, ends the process with code 1: the supervisor starts it again.
 */
export async function runService(
  log: Log,
  { readyFile, metrics }: ServiceSettings,
  start: (operations: Operations) => Promise<Running>,
): Promise<void> {
  process.on('unhandledRejection', (error) => {
    log.fatal({ err: error }, 'unhandled rejection')
    process.exit(1)
  })
  giveHeapRoom()
  const operations = new Operations(log)
  let running: Running
  let stopTracing = async () => {}
  try {
    stopTracing = await startTracing(String(log.bindings().service))
    // Before all else: a start that hangs can be seen.
    const port = await operations.listen(metrics.host, metrics.port).catch((cause) => {
      const message = `cannot serve metrics on ${metrics.host}:${metrics.port}: set SANDTRAIL_METRICS_PORT to a free port`
      throw new Error(message, { cause })
    })
    log.debug({ host: metrics.host, port }, 'metrics and probes are served')
    running = await start(operations)
  } catch (error) {
    refuseToStart(log, error)
  }
  if (readyFile) writeFileSync(readyFile, `${process.pid}\n`)
  operations.started()
  log.info('ready')

  let stopping = false
  const stop = async () => {
    if (stopping) return
    stopping = true
    log.info('stopping')
    setTimeout(() => process.exit(1), STOP_MS_MAX).unref()
    operations.stopping()
    if (readyFile) rmSync(readyFile, { force: true })
    await running.stop()
    await stopTracing()
    operations.close()
    log.info('stopped')
    process.exit(0)
  }
  process.on('SIGTERM', stop)
  process.on('SIGINT', stop)
}
