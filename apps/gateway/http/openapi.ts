/** OpenAPI 3.1 of the HTTP API, made from the schemas that the requests are checked with. docs/http.md is its prose. */

import { z } from 'zod'
import {
  appCreate,
  imageImport,
  sandboxCreate,
  sandboxExec,
  sandboxName,
  sandboxSignal,
  sandboxTag,
  tenantLimits,
  volumeCreate,
} from '#libs/contract'
import { CODES } from '#libs/domain'
import { ANSWERS, type AnswerName } from './answers.js'
import { pruneBody } from './prune.controller.js'
import {
  APP_QUERY,
  APPS_QUERY,
  AT_QUERY,
  DEAD_LETTERS_QUERY,
  EVENTS_QUERY,
  FLEET_QUERY,
  IMPORT_QUERY,
  LIST_QUERY,
  LOGS_QUERY,
  OUTPUT_QUERY,
  REFUSALS_QUERY,
  removeBody,
  resizeBody,
  SHARED_QUERY,
  STDIN_QUERY,
  sandboxBody,
  suspendBody,
  tenantBody,
  tokenBody,
  VERIFY_QUERY,
  WAIT_QUERY,
} from './queries.js'
import { cordonBody, drainBody } from './workers.controller.js'

interface Route {
  summary: string
  query?: z.ZodRawShape
  body?: z.ZodType | 'bytes'
  /** `bytes`: a raw stream; `stream`: server-sent events beside JSON. */
  answer: AnswerName | 'bytes'
  status?: number
  /** Needs no token. */
  public?: true
  /** Needs an operator's token. */
  operator?: true
  /** Takes an Idempotency-Key. */
  command?: true
}

/** Every route, by method and path; a test compares them with the controllers'. */
export const ROUTES: Record<string, Route> = {
  'POST /v1/sandboxes': {
    summary: 'Create a sandbox. Accepted and placed in one transaction.',
    body: sandboxCreate,
    answer: 'Accepted',
    status: 201,
    command: true,
  },
  'GET /v1/sandboxes': { summary: 'List sandboxes, newest first.', query: LIST_QUERY, answer: 'SandboxList' },
  'GET /v1/sandboxes/{sandbox}': {
    summary: 'A sandbox by id, unique prefix or live name; with `at` as it was at that moment.',
    query: AT_QUERY,
    answer: 'Sandbox',
  },
  'POST /v1/sandboxes/{sandbox}/terminate': {
    summary: 'End a sandbox. Legal in every state; its history stays.',
    answer: 'Accepted',
    status: 202,
    command: true,
  },
  'PUT /v1/sandboxes/{sandbox}/tags': {
    summary: 'Replace all tags; legal also after the end.',
    body: sandboxTag.omit({ sandboxId: true }),
    answer: 'Accepted',
    command: true,
  },
  'PUT /v1/sandboxes/{sandbox}/name': {
    summary: 'Name a living sandbox that has no name.',
    body: sandboxName.omit({ sandboxId: true }),
    answer: 'Accepted',
    command: true,
  },
  'GET /v1/sandboxes/{sandbox}/wait': {
    summary: 'Answers when the sandbox has ended, or with its state when the time is up.',
    query: WAIT_QUERY,
    answer: 'Sandbox',
  },
  'GET /v1/sandboxes/{sandbox}/logs': {
    summary: 'Raw output of the main process from an offset, also after its end.',
    query: LOGS_QUERY,
    answer: 'bytes',
  },
  'PUT /v1/sandboxes/{sandbox}/stdin': {
    summary:
      'Write bytes at an offset of the stdin of the main process, of a sandbox that was created with it open.',
    query: STDIN_QUERY,
    body: 'bytes',
    answer: 'StdinAccepted',
  },
  'POST /v1/sandboxes/{sandbox}/resize': {
    summary: "Set the size of the main process's terminal.",
    body: resizeBody,
    answer: 'Ok',
  },
  'GET /v1/sandboxes/{sandbox}/history': {
    summary: "The sandbox's events, oldest first; with `at` those up to that moment.",
    query: AT_QUERY,
    answer: 'SandboxHistory',
  },
  'POST /v1/sandboxes/{sandbox}/execs': {
    summary: 'Run a program in the sandbox, at most once. With `waitMs` the answer tells how it ended.',
    body: sandboxExec.omit({ sandboxId: true }),
    answer: 'ExecAccepted',
    status: 201,
    command: true,
  },
  'GET /v1/sandboxes/{sandbox}/execs': {
    summary: "The sandbox's newest 100 execs, newest first.",
    answer: 'ExecList',
  },
  'POST /v1/sandboxes/{sandbox}/snapshot': {
    summary: 'Snapshot the filesystem. Answers when sandboxes can start from it.',
    answer: 'SnapshotMade',
    status: 201,
    command: true,
  },
  'GET /v1/execs/{exec}': { summary: 'An exec by id or unique prefix.', answer: 'Exec' },
  'GET /v1/execs/{exec}/history': { summary: "The exec's events, oldest first.", answer: 'ExecHistory' },
  'GET /v1/execs/{exec}/wait': {
    summary: 'Answers when the exec has ended, or with its state when the time is up.',
    query: WAIT_QUERY,
    answer: 'Exec',
  },
  'POST /v1/execs/{exec}/signal': {
    summary: 'Send a signal to the process group.',
    body: sandboxSignal.omit({ execId: true }),
    answer: 'Accepted',
    status: 202,
    command: true,
  },
  'GET /v1/execs/{exec}/output/{stream}': {
    summary: 'Raw bytes of `stdout` or `stderr` from an offset, byte-exact, also after the end.',
    query: OUTPUT_QUERY,
    answer: 'bytes',
  },
  'PUT /v1/execs/{exec}/stdin': {
    summary:
      'Write bytes at an offset of stdin. Bytes already taken are skipped, so a chunk may be sent again.',
    query: STDIN_QUERY,
    body: 'bytes',
    answer: 'StdinAccepted',
  },
  'POST /v1/execs/{exec}/resize': { summary: "Set the terminal's size.", body: resizeBody, answer: 'Ok' },
  'POST /v1/images': {
    summary:
      'Import a root tarball: as the body with `?name=`, or as JSON {name, sha256} of an uploaded one.',
    query: IMPORT_QUERY,
    body: imageImport,
    answer: 'ImageAccepted',
    status: 201,
    command: true,
  },
  'GET /v1/images': { summary: 'List images.', answer: 'ImageList' },
  'GET /v1/images/{image}': { summary: "An image by id or name, or by a snapshot's id.", answer: 'Image' },
  'DELETE /v1/images/{image}': {
    summary: 'Remove an image.',
    query: SHARED_QUERY,
    answer: 'Accepted',
    command: true,
  },
  'GET /v1/blobs/{sha256}': {
    summary: 'A blob by a signed URL; for workers.',
    answer: 'bytes',
    public: true,
  },
  'POST /v1/volumes': {
    summary: 'Make a named volume.',
    body: volumeCreate,
    answer: 'Accepted',
    status: 201,
    command: true,
  },
  'GET /v1/volumes': { summary: 'List volumes.', answer: 'VolumeList' },
  'GET /v1/volumes/{volume}': { summary: 'A volume by id or name, with all its versions.', answer: 'Volume' },
  'POST /v1/volumes/{volume}/commit': {
    summary: 'Commit what a sandbox wrote. Answers with the version that came of it.',
    body: sandboxBody,
    answer: 'VolumeCommitted',
    status: 201,
    command: true,
  },
  'POST /v1/volumes/{volume}/reload': {
    summary: "Bring a sandbox's mount to the newest version; what it had not committed is lost.",
    body: sandboxBody,
    answer: 'Accepted',
    status: 201,
    command: true,
  },
  'DELETE /v1/volumes/{volume}': {
    summary: 'Remove a volume that is not in use.',
    answer: 'Accepted',
    command: true,
  },
  'POST /v1/apps': {
    summary: 'Make an app, which gathers sandboxes. An ephemeral one ends when its beats stop for a minute.',
    body: appCreate,
    answer: 'Accepted',
    status: 201,
    command: true,
  },
  'GET /v1/apps': { summary: 'List apps, newest first.', query: APPS_QUERY, answer: 'AppList' },
  'GET /v1/apps/{app}': {
    summary: 'An app by id, or a running one by name and environment.',
    query: APP_QUERY,
    answer: 'App',
  },
  'POST /v1/apps/{app}/stop': {
    summary: 'Stop an app. Its sandboxes are terminated, and no new ones are taken.',
    query: APP_QUERY,
    answer: 'Accepted',
    status: 202,
    command: true,
  },
  'POST /v1/apps/{app}/heartbeat': {
    summary: 'The client of an ephemeral app is there.',
    query: APP_QUERY,
    answer: 'Accepted',
    status: 202,
    command: true,
  },
  'GET /v1/events': {
    summary:
      'Events after a position; with `Accept: text/event-stream` a stream that goes on (id = position).',
    query: EVENTS_QUERY,
    answer: 'EventPage',
  },
  'GET /v1/streams/{stream}/events': {
    summary: 'All events of one stream, by id or name: a sandbox, a volume, an image, a snapshot ...',
    answer: 'StreamHistory',
  },
  'GET /v1/fleet': {
    summary: 'The fleet at a moment, rebuilt from events.',
    query: FLEET_QUERY,
    answer: 'Fleet',
  },
  'GET /v1/workers': { summary: 'List workers.', answer: 'WorkerList', operator: true },
  'GET /v1/workers/{worker}': { summary: 'A worker by id.', answer: 'Worker', operator: true },
  'GET /v1/workers/{worker}/history': {
    summary: 'Who cordoned, drained and uncordoned it.',
    answer: 'StreamHistory',
    operator: true,
  },
  'POST /v1/workers/{worker}/cordon': {
    summary: 'No new sandbox goes there; what runs goes on.',
    body: cordonBody,
    answer: 'Accepted',
    status: 202,
    command: true,
    operator: true,
  },
  'POST /v1/workers/{worker}/uncordon': {
    summary: 'Sandboxes may go there again.',
    answer: 'Accepted',
    status: 202,
    command: true,
    operator: true,
  },
  'POST /v1/workers/{worker}/drain': {
    summary: 'Cordon it until it is empty; what runs after `timeoutMs` is terminated.',
    body: drainBody,
    answer: 'Accepted',
    status: 202,
    command: true,
    operator: true,
  },
  'GET /v1/dead-letters': {
    summary: 'Queued commands that nobody could handle, oldest first.',
    query: DEAD_LETTERS_QUERY,
    answer: 'DeadLetterList',
    operator: true,
  },
  'GET /v1/dead-letters/{seq}': {
    summary: 'One with headers and body; values of env and stdin are left out.',
    answer: 'DeadLetter',
    operator: true,
  },
  'POST /v1/dead-letters/{seq}/redrive': {
    summary: 'Queue it again under its own command id, with a new expiry.',
    answer: 'Redriven',
    status: 202,
    operator: true,
  },
  'DELETE /v1/dead-letters/{seq}': { summary: 'Remove it for good.', answer: 'Ok', operator: true },
  'POST /v1/prune': {
    summary: 'Remove what is past keeping now, or tell what that would be. For operators.',
    body: pruneBody,
    answer: 'PruneReport',
  },
  'GET /v1/verify': {
    summary: "Verify the trail; a tenant's token verifies streams of its own.",
    query: VERIFY_QUERY,
    answer: 'VerifyReport',
  },
  'GET /v1/health': { summary: 'Whether each part of the system answers.', answer: 'Health' },
  'GET /v1/whoami': { summary: 'Tenant and id of the token.', answer: 'Principal' },
  'POST /v1/tokens': {
    summary: 'Make a token; it is shown once.',
    body: tokenBody,
    answer: 'TokenMade',
    status: 201,
  },
  'GET /v1/tokens': { summary: "List the tenant's tokens.", answer: 'TokenList' },
  'DELETE /v1/tokens/{token}': { summary: 'Revoke a token, at once.', answer: 'Ok' },
  'GET /v1/tenant': {
    summary: "The caller's own limits (null: unlimited), and what it uses.",
    answer: 'Tenant',
  },
  'GET /v1/tenants': { summary: 'List tenants.', answer: 'TenantList', operator: true },
  'POST /v1/tenants': {
    summary: 'Make a tenant. Its account on the broker comes with the next reload of the broker.',
    body: tenantBody,
    answer: 'Tenant',
    status: 201,
    command: true,
    operator: true,
  },
  'GET /v1/tenants/{tenant}': { summary: 'A tenant.', answer: 'Tenant', operator: true },
  'PATCH /v1/tenants/{tenant}': {
    summary:
      'Change limits: null takes one away, one that is absent stays. Below what is used nothing is ended.',
    body: tenantLimits,
    answer: 'Tenant',
    command: true,
    operator: true,
  },
  'GET /v1/tenants/{tenant}/history': {
    summary: 'What was decided about a tenant and its tokens, and by whom.',
    answer: 'StreamHistory',
    operator: true,
  },
  'POST /v1/tenants/{tenant}/suspend': {
    summary: 'Serve no call of it any more; what it runs goes on, or is ended with `sandboxes: end`.',
    body: suspendBody,
    answer: 'Tenant',
    command: true,
    operator: true,
  },
  'POST /v1/tenants/{tenant}/resume': {
    summary: 'Serve it again.',
    answer: 'Tenant',
    command: true,
    operator: true,
  },
  'POST /v1/tenants/{tenant}/remove': {
    summary: 'Remove it for good; its trail stays. Refused while it has things, unless forced.',
    body: removeBody,
    answer: 'Tenant',
    command: true,
    operator: true,
  },
  'POST /v1/tenants/{tenant}/tokens': {
    summary: 'Make a token for a tenant; it is shown once.',
    body: tokenBody.omit({ operator: true }),
    answer: 'TokenMade',
    status: 201,
    operator: true,
  },
  'GET /v1/tenants/{tenant}/tokens': {
    summary: "List a tenant's tokens.",
    answer: 'TokenList',
    operator: true,
  },
  'DELETE /v1/tenants/{tenant}/tokens/{token}': {
    summary: 'Revoke a token of a tenant, at once.',
    answer: 'Ok',
    operator: true,
  },
  'GET /v1/refusals': {
    summary: 'Calls that were refused (token, permission, quota, rate), counted by minute, newest first.',
    query: REFUSALS_QUERY,
    answer: 'RefusalList',
  },
  'GET /livez': { summary: 'The process answers.', answer: 'Ok', public: true },
  'GET /readyz': { summary: 'Database and broker can be reached.', answer: 'Ok', public: true },
  'GET /openapi.json': { summary: 'This document.', answer: 'Document', public: true },
}

let made: object | null = null

/** The document. Made once: it depends on nothing but the code. */
export function openApi(): object {
  made ??= {
    openapi: '3.1.0',
    info: {
      title: 'Sandtrail',
      version: '1',
      description: 'Isolated sandboxes on your own hosts, every lifecycle transition an event in Postgres.',
      license: { name: 'Apache-2.0', identifier: 'Apache-2.0' },
    },
    security: [{ token: [] }],
    paths: paths(),
    components: {
      securitySchemes: { token: { type: 'http', scheme: 'bearer' } },
      schemas: Object.fromEntries(Object.entries(ANSWERS).map(([name, schema]) => [name, toSchema(schema)])),
    },
  }
  return made
}

function paths(): Record<string, Record<string, object>> {
  const result: Record<string, Record<string, object>> = {}
  for (const [key, route] of Object.entries(ROUTES)) {
    const [method, path] = key.split(' ') as [string, string]
    result[path] ??= {}
    result[path][method.toLowerCase()] = operation(key, path, route)
  }
  return result
}

function operation(key: string, path: string, route: Route): object {
  const ok = String(route.status ?? 200)
  return {
    operationId: key.replace(/[^A-Za-z0-9]+/g, '_').replace(/_$/, ''),
    summary: route.operator ? `${route.summary} Operators only.` : route.summary,
    ...(route.public ? { security: [] } : {}),
    parameters: [...pathParameters(path), ...queryParameters(route.query ?? {}), ...commandParameters(route)],
    ...(route.body === undefined ? {} : { requestBody: requestBody(key, route.body) }),
    responses: {
      [ok]: { description: 'Done.', content: answerContent(key, route.answer) },
      default: {
        description: `An error; its code tells the status: ${Object.keys(CODES).join(', ')}.`,
        content: { 'application/json': { schema: reference('Error') } },
      },
    },
  }
}

function pathParameters(path: string): object[] {
  return [...path.matchAll(/\{(\w+)\}/g)].map(([, name]) => ({
    name,
    in: 'path',
    required: true,
    schema:
      path.endsWith('/output/{stream}') && name === 'stream'
        ? { enum: ['stdout', 'stderr'] }
        : { type: 'string' },
  }))
}

function queryParameters(shape: z.ZodRawShape): object[] {
  return Object.entries(shape).map(([name, schema]) => ({
    name,
    in: 'query',
    required: false,
    schema: toSchema(schema as z.ZodType),
  }))
}

function commandParameters({ command }: Route): object[] {
  if (command !== true) return []
  const description = 'The id of the command: a request sent again with it has no second effect.'
  return [{ name: 'Idempotency-Key', in: 'header', required: false, description, schema: { type: 'string' } }]
}

function requestBody(key: string, body: z.ZodType | 'bytes'): object {
  const bytes = { 'application/octet-stream': { schema: { type: 'string', format: 'binary' } } }
  if (body === 'bytes') return { required: true, content: bytes }
  const json = { 'application/json': { schema: toSchema(body) } }
  return { required: true, content: key === 'POST /v1/images' ? { ...json, ...bytes } : json }
}

function answerContent(key: string, answer: Route['answer']): object {
  if (answer === 'bytes')
    return { 'application/octet-stream': { schema: { type: 'string', format: 'binary' } } }
  const json = { 'application/json': { schema: reference(answer) } }
  const stream = { 'text/event-stream': { schema: { type: 'string' } } }
  return key === 'GET /v1/events' ? { ...json, ...stream } : json
}

function reference(name: AnswerName): object {
  return { $ref: `#/components/schemas/${name}` }
}

/** As the caller writes it: before defaults and conversions. */
function toSchema(schema: z.ZodType): object {
  const { $schema: _, ...rest } = z.toJSONSchema(schema, { io: 'input', unrepresentable: 'any' })
  return rest
}
