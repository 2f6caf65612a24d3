/** A request to the gateway from a service, with the authority of this installation. */

import { type IncomingMessage, request as requestHttp } from 'node:http'
import { request as requestHttps } from 'node:https'
import { tlsTrouble } from '#libs/tls'

export interface GetOptions {
  method?: 'GET' | 'HEAD'
  /** PEM of the authorities that count for https; undefined: the system's. */
  ca?: string | undefined
  /** Until the end of the body. */
  timeoutMs: number
}

/**
 * Resolves with the answer's head, whatever its status; redirects are not followed. The caller reads or destroys it.
 *
 * @throws SandtrailError TLS_FAILED; what Node throws
 */
export function httpGet(
  url: string,
  { method = 'GET', ca, timeoutMs }: GetOptions,
): Promise<IncomingMessage> {
  const { promise, resolve, reject } = Promise.withResolvers<IncomingMessage>()
  const options = { method, signal: AbortSignal.timeout(timeoutMs), agent: false as const }
  const request = url.startsWith('https:')
    ? requestHttps(url, { ...options, ...(ca === undefined ? {} : { ca }) })
    : requestHttp(url, options)
  request.once('response', resolve)
  request.once('error', (error) => reject(tlsTrouble(error, 'the gateway') ?? error))
  request.end()
  return promise
}
