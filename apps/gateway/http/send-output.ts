/** Hands a worker's bytes on to the caller: nothing is kept here, a slow caller slows the worker's reading. */

import { pipeline } from 'node:stream/promises'
import type { Response } from 'express'
import type { Output } from '../output.js'

/**
 * Sends the bytes as they come. When the worker's side breaks the connection is cut, so that the caller sees that
 * something is missing and goes on from its offset.
 */
export async function sendOutput(response: Response, output: Output): Promise<void> {
  response.status(200)
  response.setHeader('Content-Type', 'application/octet-stream')
  response.setHeader('Cache-Control', 'no-store')
  response.setHeader('Sandtrail-Offset', String(output.offset))
  if (output.complete) response.setHeader('Sandtrail-End', '1')
  if (output.body === null) {
    response.end()
    return
  }
  response.flushHeaders()
  try {
    await pipeline(output.body, response)
  } catch {
    response.destroy()
  }
}
