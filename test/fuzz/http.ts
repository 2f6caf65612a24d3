/** Requests to every route of the gateway, made from its own table, written to a socket byte by byte as they are. */

import { connect } from 'node:net'
import fc from 'fast-check'
import { z } from 'zod'
import { CODES, type ErrorCode } from '#libs/domain'
import { ANSWERS } from '../../apps/gateway/http/answers.js'
import { ROUTES } from '../../apps/gateway/http/openapi.js'
import { type Body, bodyOf, bytesOf } from './json.js'
import { fitting } from './schema.js'
import { fillIn, type Target } from './target.js'

export interface HttpCase {
  as: 'tenant' | 'operator' | 'nobody'
  /** A key of ROUTES, whose answer it must be when it is taken. */
  route: string
  /** Of the path, as they stand in it. */
  params: string[]
  query: [string, string][]
  headers: [string, string][]
  body: Body | null
  framing: Framing
}

type Framing =
  | 'whole'
  | 'chunked'
  | 'longer'
  | 'shorter'
  | 'negative'
  | 'twice'
  | 'broken chunk'
  | 'no length'

/** An answer may take as long as the caller asked for. Nothing else may. */
const WAITING = /\/(wait|logs|execs|stdin|snapshot|commit|images|events)$|\/output\//
const ANSWER_MS_MAX = 15_000
const WAITED_MS = 400

const HOSTILE = [
  ...[
    '..',
    '.',
    '%2e%2e',
    '%2e%2e%2f%2e%2e%2fetc%2fpasswd',
    '%00',
    '%0a',
    '%',
    '%ff',
    '%c0%af',
    '%20',
    '*',
    '-rf',
  ],
  ...[
    '%24%7bjndi%3ax%7d',
    "'%20or%201%3d1--",
    'x'.repeat(4_096),
    '%F0%9F%92%A5',
    '__proto__',
    'constructor',
    'null',
  ],
  ...[
    'sb-',
    'sb-0',
    'sb-zzzz',
    '9007199254740993',
    '-1',
    '1e9',
    '0x1',
    'command:default:x',
    'wk-x',
    '%e2%80%ae',
  ],
]
const TEXTS = [
  '',
  '-1',
  '1e9',
  '0x10',
  '00',
  '9007199254740993',
  '%00',
  'x'.repeat(5_000),
  'true',
  'null',
  '%ff',
  '[]',
  '%5B%5D',
]

const rawText = fc.oneof(fc.constantFrom(...TEXTS), fc.string({ maxLength: 20 }).map(encodeURIComponentWell))
const segment = (name: string) =>
  fc.oneof(
    { weight: 3, arbitrary: fc.constant(`{${name}}`) },
    { weight: 1, arbitrary: fc.constantFrom(...HOSTILE) },
    { weight: 1, arbitrary: rawText },
  )

const header: fc.Arbitrary<[string, string]> = fc.oneof(
  fc.tuple(
    fc.constant('Content-Type'),
    fc.constantFrom(
      'application/json',
      'application/json; charset=utf-16',
      'application/octet-stream',
      'application/x-tar',
      'application/x-www-form-urlencoded',
      'multipart/form-data; boundary=x',
      'text/plain',
      'x',
      '',
      ';;;',
    ),
  ),
  fc.tuple(fc.constant('Content-Encoding'), fc.constantFrom('gzip', 'deflate', 'br', 'x', 'identity')),
  fc.tuple(
    fc.constant('Idempotency-Key'),
    fc.oneof(
      fc.constantFrom(
        '',
        'short',
        'a..b.c.d.e',
        '.leading-dot',
        'x'.repeat(200),
        'ünïcode-key',
        'a b c d e f g',
        '>.*.>.*.>',
      ),
      fc.uuid(),
    ),
  ),
  fc.tuple(fc.constant('Accept'), fc.constantFrom('text/event-stream', 'application/xml', '*/*;q=x', '')),
  fc.tuple(fc.constant('Last-Event-ID'), fc.constantFrom('x', '', '-1', '99999999999999999999', '0')),
  fc.tuple(
    fc.constant('Authorization'),
    fc.constantFrom(
      'Bearer',
      'Bearer x',
      'Basic eDp5',
      'bearer st_',
      'Bearer st_a.b',
      `Bearer ${'x'.repeat(9_000)}`,
    ),
  ),
  fc.tuple(
    fc.constant('traceparent'),
    fc.constantFrom('x', '00-0-0-0', `00-${'0'.repeat(32)}-${'0'.repeat(16)}-01`),
  ),
  fc.tuple(
    fc.constantFrom(
      'Range',
      'If-None-Match',
      'X-HTTP-Method-Override',
      'X-Forwarded-For',
      'Sandtrail-Actor',
      'Forwarded',
    ),
    fc.constantFrom('bytes=0-', '*', 'DELETE', '127.0.0.1', 'system:scheduler'),
  ),
  fc.tuple(
    fc.constantFrom('Expect', 'Upgrade', 'TE', 'Trailer'),
    fc.constantFrom('100-continue', 'x', 'websocket', 'h2c'),
  ),
  fc.tuple(
    fc.constant('X-Long'),
    fc.constantFrom(12_000, 70_000).map((length) => 'x'.repeat(length)),
  ),
)

const framing: fc.Arbitrary<Framing> = fc.oneof(
  { weight: 20, arbitrary: fc.constant<Framing>('whole') },
  { weight: 4, arbitrary: fc.constant<Framing>('chunked') },
  {
    weight: 1,
    arbitrary: fc.constantFrom<Framing>(
      'longer',
      'shorter',
      'negative',
      'twice',
      'broken chunk',
      'no length',
    ),
  },
)

export const httpCase: fc.Arbitrary<HttpCase> = fc.constantFrom(...Object.keys(ROUTES)).chain((route) => {
  const { query = {}, body } = ROUTES[route]!
  const names = [...route.matchAll(/\{(\w+)\}/g)].map(([, name]) => name!)
  const known = Object.entries(query).map(([name, schema]) =>
    fc
      .oneof(
        fitting(schema as z.ZodType)
          .map(String)
          .map(encodeURIComponentWell),
        rawText,
      )
      .map((text): [string, string] => [name, text]),
  )
  const odd = fc.tuple(
    fc.oneof(
      fc.constantFrom('__proto__', 'a%5Bb%5D', 'limit', 'after', 'at', '', '%00', 'type', 'x'.repeat(3_000)),
      fc.string({ maxLength: 6 }).map(encodeURIComponentWell),
    ),
    rawText,
  )
  const value = body === undefined ? fc.constant({}) : body === 'bytes' ? fc.string() : fitting(body)
  return fc.record({
    as: fc.oneof(
      { weight: 8, arbitrary: fc.constant('operator' as const) },
      { weight: 8, arbitrary: fc.constant('tenant' as const) },
      { weight: 1, arbitrary: fc.constant('nobody' as const) },
    ),
    route: fc.constant(route),
    params: fc.tuple(...names.map(segment)),
    query: fc
      .tuple(
        known.length === 0 ? fc.constant([]) : fc.array(fc.oneof(...known), { maxLength: 3 }),
        fc.oneof(
          { weight: 5, arbitrary: fc.constant([]) },
          { weight: 1, arbitrary: fc.array(odd, { maxLength: 2 }) },
        ),
      )
      .map(([right, wrong]): [string, string][] => [...right, ...wrong]),
    headers: fc.oneof(
      { weight: 4, arbitrary: fc.constant<[string, string][]>([]) },
      { weight: 1, arbitrary: fc.array(header, { minLength: 1, maxLength: 3 }) },
    ),
    body: body === undefined ? fc.option(bodyOf(value), { freq: 5 }) : fc.option(bodyOf(value), { freq: 20 }),
    framing,
  })
})

/** @returns the status, or why there is none @throws when an answer is none that is allowed */
export async function tryHttp(target: Target, one: HttpCase): Promise<string> {
  const answer = await send(target.url, requestOf(target, one), one)
  if (answer === 'open') {
    if (WAITING.test(pathOf(one.route))) return 'waits'
    throw new Error(`no answer within ${ANSWER_MS_MAX} ms`)
  }
  if (answer === 'closed') {
    if (one.framing === 'whole' || one.framing === 'chunked')
      throw new Error('the connection was closed without an answer')
    return 'closed'
  }
  const { status, text } = answer
  if (status >= 400) refusalOf(status, text)
  else if (status < 200 || status >= 300) throw new Error(`status ${status}`)
  else expected(one, text, answer.type)
  return String(status)
}

const pathOf = (route: string) => route.split(' ')[1]!.replaceAll(/\{stream\}$/g, 'stream')

const errorBody = z.strictObject({
  error: z.strictObject({
    code: z.enum(Object.keys(CODES) as [ErrorCode, ...ErrorCode[]]),
    message: z.string().min(1).max(1_000),
    hint: z.string().max(1_000).nullable(),
    retryable: z.boolean(),
    retryAfterMs: z.number().optional(),
  }),
  firstOffset: z.number().optional(),
})
/** Of trouble that the services may have with things of the guest; not of bad input. */
const NEVER: ReadonlySet<string> = new Set([
  'INTERNAL',
  'UNAVAILABLE',
  'STREAM_BUSY',
  'DEADLINE_EXCEEDED',
  'NO_SPACE',
])

export function checkRefusal(body: unknown): ErrorCode {
  const { code, message } = errorBody.parse(body).error
  if (NEVER.has(code)) throw new Error(`${code}: ${message}`)
  if (
    /\p{Cc}/u.test(message) ||
    /Too (big|small)|Invalid input|expected .*received|at \w+ \(/.test(message)
  ) {
    throw new Error(`a message for nobody: ${JSON.stringify(message)}`)
  }
  return code
}

function refusalOf(status: number, text: string): void {
  const code = checkRefusal(JSON.parse(text))
  if (CODES[code].http !== status) throw new Error(`${code} with status ${status}`)
}

function expected({ route, params }: HttpCase, text: string, type: string): void {
  const { answer } = ROUTES[route]!
  // Another path may be another route.
  if (
    params.some((one) => !one.startsWith('{')) ||
    answer === 'bytes' ||
    !type.startsWith('application/json')
  )
    return
  ANSWERS[answer].parse(JSON.parse(text))
}

function requestOf(target: Target, one: HttpCase): Buffer {
  const [method, template] = one.route.split(' ') as [string, string]
  let at = 0
  const path = template.replaceAll(/\{\w+\}/g, () => one.params[at++] ?? 'x')
  const query = one.query.map(([name, value]) => `${name}=${value}`).join('&')
  // Ended things are for those who end them: the others need one that lives.
  const things = /terminate$|^DELETE|cordon$|drain$/.test(one.route) ? target.spare : target.things
  const line = fillIn(`${method} ${path}${query === '' ? '' : `?${query}`} HTTP/1.1`, things)
  const given = new Set(one.headers.map(([name]) => name.toLowerCase()))
  const headers: [string, string][] = [['Host', 'sandtrail'], ['Connection', 'close'], ...one.headers]
  if (one.as !== 'nobody' && !given.has('authorization'))
    headers.push(['Authorization', `Bearer ${target.tokens[one.as]}`])
  const bytes =
    one.body === null
      ? Buffer.alloc(0)
      : Buffer.from(fillIn(bytesOf(one.body).toString('latin1'), things), 'latin1')
  if (one.body !== null && !given.has('content-type')) {
    headers.push([
      'Content-Type',
      ROUTES[one.route]!.body === 'bytes' ? 'application/octet-stream' : 'application/json',
    ])
  }
  const [framed, more] = one.body === null ? [bytes, []] : frame(bytes, one.framing)
  const head = [line, ...[...headers, ...more].map(([name, value]) => `${name}: ${value}`), '', ''].join(
    '\r\n',
  )
  return Buffer.concat([Buffer.from(head.replaceAll('\0', ''), 'latin1'), framed])
}

function frame(bytes: Buffer, framing: Framing): [Buffer, [string, string][]] {
  const chunk = (size: string) =>
    Buffer.concat([Buffer.from(`${size}\r\n`), bytes, Buffer.from('\r\n0\r\n\r\n')])
  switch (framing) {
    case 'whole':
      return [bytes, [['Content-Length', String(bytes.length)]]]
    case 'chunked':
      return bytes.length === 0
        ? [Buffer.from('0\r\n\r\n'), [['Transfer-Encoding', 'chunked']]]
        : [chunk(bytes.length.toString(16)), [['Transfer-Encoding', 'chunked']]]
    case 'longer':
      return [bytes, [['Content-Length', String(bytes.length + 10)]]]
    case 'shorter':
      return [bytes, [['Content-Length', String(Math.max(0, bytes.length - 3))]]]
    case 'negative':
      return [bytes, [['Content-Length', '-1']]]
    case 'twice':
      return [
        bytes,
        [
          ['Content-Length', String(bytes.length)],
          ['Transfer-Encoding', 'chunked'],
        ],
      ]
    case 'broken chunk':
      return [chunk('zz'), [['Transfer-Encoding', 'chunked']]]
    case 'no length':
      return [bytes, []]
  }
}

function encodeURIComponentWell(text: string): string {
  return encodeURIComponent(text.toWellFormed())
}

type Answer = { status: number; type: string; text: string }

function send(url: URL, request: Buffer, one: HttpCase): Promise<Answer | 'closed' | 'open'> {
  return new Promise((resolve, reject) => {
    const socket = connect(Number(url.port), url.hostname)
    const chunks: Buffer[] = []
    const end = (result: Answer | 'closed' | 'open') => {
      clearTimeout(timer)
      socket.destroy()
      resolve(result)
    }
    const isComplete = one.framing === 'whole' || one.framing === 'chunked'
    const limitMs = WAITING.test(pathOf(one.route)) || !isComplete ? WAITED_MS : ANSWER_MS_MAX
    const timer = setTimeout(() => {
      const answer = parse(Buffer.concat(chunks))
      if (answer !== null) end(answer)
      // A request that never comes to its end is waited for, as a slow client's would be.
      else end(one.framing === 'whole' || one.framing === 'chunked' ? 'open' : 'closed')
    }, limitMs)
    socket.on('data', (chunk) => chunks.push(chunk))
    socket.on('error', (error: NodeJS.ErrnoException) => {
      // An answer that came before the whole request was read; the rest of it meets a closed socket.
      if (error.code === 'ECONNREFUSED') reject(error)
    })
    socket.on('close', () => end(parse(Buffer.concat(chunks)) ?? 'closed'))
    socket.write(request)
  })
}

function parse(bytes: Buffer): Answer | null {
  const text = bytes.toString('latin1')
  const end = text.indexOf('\r\n\r\n')
  if (end < 0) return null
  const [line, ...headers] = text.slice(0, end).split('\r\n')
  const status = Number(/^HTTP\/1\.1 (\d{3})/.exec(line ?? '')?.[1])
  if (status === 100) return parse(bytes.subarray(end + 4))
  const named = new Map(
    headers.map((header) => [
      header.slice(0, header.indexOf(':')).toLowerCase(),
      header.slice(header.indexOf(':') + 1).trim(),
    ]),
  )
  const rest = bytes.subarray(end + 4)
  const body = named.get('transfer-encoding') === 'chunked' ? dechunk(rest) : rest
  return { status, type: named.get('content-type') ?? '', text: body.toString('utf8') }
}

function dechunk(bytes: Buffer): Buffer {
  const parts: Buffer[] = []
  let at = 0
  for (;;) {
    const lineEnd = bytes.indexOf('\r\n', at)
    const size = Number.parseInt(bytes.subarray(at, lineEnd).toString(), 16)
    if (lineEnd < 0 || !(size > 0)) return Buffer.concat(parts)
    parts.push(bytes.subarray(lineEnd + 2, lineEnd + 2 + size))
    at = lineEnd + 2 + size + 2
  }
}
