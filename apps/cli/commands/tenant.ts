import { Api, path } from '../api.js'
import { usage } from '../failure.js'
import { ago, chooseFormat, type Format, note, printJson, printLine, printTable } from '../print.js'
import { type LimitFlags, limitsBody } from '../tenant-commands.js'
import type { Event, Tenant } from '../types.js'
import { printEvents } from './history.js'
import { printTokens, type Token } from './token.js'

type Flags = LimitFlags & { output?: Format }

/** Prints the tenant's first token alone. */
export async function createTenant(name: string, flags: Flags): Promise<void> {
  if (flags.output !== undefined) chooseFormat(flags.output)
  const api = Api.fromEnvironment()
  const tenant = await api.json<Tenant>('POST', '/v1/tenants', {
    json: { tenant: name, ...limitsBody(flags) },
  })
  const json = { name: 'first' }
  const { id, token } = await api.json<Made>('POST', path`/v1/tenants/${name}/tokens`, { json })
  api.close()
  if (flags.output === 'json') {
    printJson({ ...tenant, tokenId: id, token })
    return
  }
  note(`its account on the broker comes with \`make tenants\`, see docs/tenants.md; HTTP works now`)
  printLine(token)
}

export async function listTenants(flags: { output?: Format }): Promise<void> {
  const format = chooseFormat(flags.output)
  const api = Api.fromEnvironment()
  const { tenants } = await api.json<{ tenants: Tenant[] }>('GET', '/v1/tenants')
  api.close()
  if (format === 'json') {
    printJson(tenants)
    return
  }
  const now = new Date()
  printTable(
    ['TENANT', 'STATE', 'SANDBOXES', 'EXECS', 'MEMORY', 'DISK', 'CREATED'],
    tenants.map((tenant) => [
      tenant.tenant,
      tenant.state,
      usedOf(tenant, 'sandboxes'),
      usedOf(tenant, 'execs'),
      usedOf(tenant, 'memoryBytes'),
      usedOf(tenant, 'diskBytes'),
      ago(tenant.createdAt, now),
    ]),
  )
}

export async function describeTenant(name: string | undefined, flags: { output?: Format }): Promise<void> {
  const format = chooseFormat(flags.output)
  const api = Api.fromEnvironment()
  const tenant = await api.json<Tenant>('GET', name === undefined ? '/v1/tenant' : path`/v1/tenants/${name}`)
  api.close()
  show(tenant, format)
}

export async function setLimits(name: string, flags: Flags): Promise<void> {
  const limits = limitsBody(flags)
  if (Object.keys(limits).length === 0) throw usage('no limit is named', 'see `sandtrail tenant set --help`')
  const format = chooseFormat(flags.output)
  const api = Api.fromEnvironment()
  const tenant = await api.json<Tenant>('PATCH', path`/v1/tenants/${name}`, { json: limits })
  api.close()
  if (Object.keys(limits).some((limit) => limit.startsWith('nats'))) {
    note('limits on the broker hold after `make tenants`, see docs/tenants.md')
  }
  show(tenant, format)
}

export function suspendTenant(
  name: string,
  flags: { reason?: string; endSandboxes?: boolean; output?: Format },
): Promise<void> {
  const json = { reason: flags.reason ?? null, sandboxes: flags.endSandboxes ? 'end' : 'keep' }
  return change(`${path`/v1/tenants/${name}`}/suspend`, json, flags)
}

export function resumeTenant(name: string, flags: { output?: Format }): Promise<void> {
  return change(`${path`/v1/tenants/${name}`}/resume`, {}, flags)
}

export async function removeTenant(
  name: string,
  flags: { reason?: string; force?: boolean; output?: Format },
): Promise<void> {
  const json = { reason: flags.reason ?? null, force: flags.force ?? false }
  await change(`${path`/v1/tenants/${name}`}/remove`, json, flags)
  note('its account on the broker goes with `make tenants`, see docs/tenants.md')
}

/** Prints the state that it is in now. */
async function change(to: string, json: object, flags: { output?: Format }): Promise<void> {
  if (flags.output !== undefined) chooseFormat(flags.output)
  const api = Api.fromEnvironment()
  const tenant = await api.json<Tenant>('POST', to, { json, command: true })
  api.close()
  if (flags.output === 'json') printJson(tenant)
  else printLine(tenant.state)
}

export async function tenantHistory(name: string, flags: { output?: Format }): Promise<void> {
  const format = chooseFormat(flags.output)
  const api = Api.fromEnvironment()
  const { events } = await api.json<{ events: Event[] }>('GET', path`/v1/tenants/${name}/history`)
  api.close()
  if (format === 'json') printJson(events)
  else printEvents(events)
}

interface Made {
  id: string
  token: string
}

export async function createToken(
  name: string,
  tokenName: string,
  flags: { output?: Format },
): Promise<void> {
  if (flags.output !== undefined) chooseFormat(flags.output)
  const api = Api.fromEnvironment()
  const json = { name: tokenName }
  const made = await api.json<Made>('POST', path`/v1/tenants/${name}/tokens`, { json })
  api.close()
  if (flags.output === 'json') printJson(made)
  else printLine(made.token)
}

export async function listTokens(name: string, flags: { output?: Format }): Promise<void> {
  const format = chooseFormat(flags.output)
  const api = Api.fromEnvironment()
  const { tokens } = await api.json<{ tokens: Token[] }>('GET', path`/v1/tenants/${name}/tokens`)
  api.close()
  if (format === 'json') printJson(tokens)
  else printTokens(tokens)
}

/** Prints the ids that were revoked. */
export async function revokeTokens(name: string, ids: string[], { all }: { all?: boolean }): Promise<void> {
  if (ids.length > 0 === (all === true)) throw usage('name the tokens to revoke, or say --all')
  const api = Api.fromEnvironment()
  const { tokens } = all
    ? await api.json<{ tokens: Token[] }>('GET', path`/v1/tenants/${name}/tokens`)
    : { tokens: [] }
  const inUse = tokens.filter(({ revokedAt }) => revokedAt === null).map(({ id }) => id)
  for (const id of all ? inUse : ids) {
    await api.json('DELETE', path`/v1/tenants/${name}/tokens/${id}`)
    printLine(id)
  }
  api.close()
}

function show(tenant: Tenant, format: Format): void {
  if (format === 'json') {
    printJson(tenant)
    return
  }
  printTable(
    ['LIMIT', 'USED', 'OF'],
    Object.entries(tenant.limits).map(([name, limit]) => [
      name,
      String(tenant.used[name] ?? '-'),
      limit === null ? 'unlimited' : String(limit),
    ]),
  )
}

function usedOf({ used, limits }: Tenant, name: string): string {
  return `${used[name] ?? 0}/${limits[name] ?? '-'}`
}
