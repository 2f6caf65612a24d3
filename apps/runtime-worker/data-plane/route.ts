/** What a request on the data plane asks for: parsed and checked before anything else happens. */

import { MAIN_EXEC } from '#libs/contract'
import { isId, Rejected, type SandboxId } from '#libs/domain'
import type { ExecKey } from '../sandboxes/journal.js'
import type { StreamName } from '../spool/spool.js'

interface OfExec {
  sandboxId: SandboxId
  execId: ExecKey
}

export type Route =
  | ({ kind: 'output'; stream: StreamName; offset: number; follow: boolean; limit: number } & OfExec)
  | ({ kind: 'stdin'; offset: number; eof: boolean } & OfExec)
  | ({ kind: 'resize' } & OfExec)

const PATH = /^\/v1\/sandboxes\/([^/]+)\/execs\/([^/]+)\/(output\/(?:stdout|stderr)|stdin|resize)$/
const METHODS = { output: 'GET', stdin: 'PUT', resize: 'POST' } as const

/** @throws Rejected NOT_FOUND or INVALID_ARGUMENT. */
export function parseRoute(method: string, target: string): Route {
  const url = new URL(target, 'https://worker')
  const [, sandboxId, execId, rest] = PATH.exec(url.pathname) ?? []
  const [what, stream] = (rest ?? '').split('/') as [keyof typeof METHODS, StreamName | undefined]
  const known = isId('sb', sandboxId) && (execId === MAIN_EXEC || isId('ex', execId))
  if (!known || METHODS[what] !== method)
    throw new Rejected('NOT_FOUND', `no such path: ${method} ${url.pathname}`)
  const of: OfExec = { sandboxId, execId: execId as ExecKey }
  const query = url.searchParams
  switch (what) {
    case 'output':
      return {
        kind: 'output',
        stream: stream!,
        offset: wholeNumber(query, 'offset', 0),
        follow: flag(query, 'follow'),
        limit: wholeNumber(query, 'limit', Number.MAX_SAFE_INTEGER),
        ...of,
      }
    case 'stdin':
      return { kind: 'stdin', offset: wholeNumber(query, 'offset', 0), eof: flag(query, 'eof'), ...of }
    case 'resize':
      return { kind: 'resize', ...of }
  }
}

function wholeNumber(query: URLSearchParams, name: string, otherwise: number): number {
  const text = query.get(name)
  if (text === null) return otherwise
  const value = Number(text)
  if (/^\d{1,16}$/.test(text) && Number.isSafeInteger(value)) return value
  throw new Rejected('INVALID_ARGUMENT', `${name} must be a whole number of bytes`)
}

function flag(query: URLSearchParams, name: string): boolean {
  const text = query.get(name) ?? '0'
  if (text === '0' || text === '1') return text === '1'
  throw new Rejected('INVALID_ARGUMENT', `${name} must be 0 or 1`)
}
