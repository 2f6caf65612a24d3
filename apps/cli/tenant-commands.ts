/** Commands of operators, and those by which anybody looks at what limits and refuses it. */

import { type Command, Option } from 'commander'
import { parseCount, parseCpu, parseSize, unlimited } from './options.js'

const output = () => new Option('-o, --output <format>', 'table or json').choices(['table', 'json'])

/** As commander gives them; their names are those of the API. `none`: unlimited. */
export interface LimitFlags {
  sandboxes?: number | 'none'
  execs?: number | 'none'
  cpu?: number | 'none'
  memory?: number | 'none'
  disk?: number | 'none'
  commandsPerSecond?: number | 'none'
  commandsBurst?: number
  requestsPerSecond?: number | 'none'
  requestsBurst?: number
  natsConnections?: number
  natsSubscriptions?: number
  natsPayload?: number
}

export function addTenantCommands(program: Command): void {
  const tenant = program.command('tenant').description('tenants and their limits; for operators')
  const tenants = () => import('./commands/tenant.js')
  withLimitFlags(tenant.command('create'))
    .description('make a tenant, and print the first token for it; it is shown this once')
    .argument('<name>')
    .addOption(output())
    .action(async (name, flags) => (await tenants()).createTenant(name, flags))
  tenant
    .command('ls')
    .addOption(output())
    .action(async (flags) => (await tenants()).listTenants(flags))
  tenant
    .command('describe')
    .description('limits, and what is used of them')
    .argument('[name]', 'without it your own tenant, for which you need be no operator')
    .addOption(output())
    .action(async (name, flags) => (await tenants()).describeTenant(name, flags))
  withLimitFlags(tenant.command('set'))
    .description('change limits; what is not named stays')
    .argument('<name>')
    .addOption(output())
    .action(async (name, flags) => (await tenants()).setLimits(name, flags))
  tenant
    .command('suspend')
    .description('serve no call of a tenant any more, at once; what it runs goes on')
    .argument('<name>')
    .option('--reason <text>', 'kept in the trail')
    .option('--end-sandboxes', 'and end what it runs')
    .addOption(output())
    .action(async (name, flags) => (await tenants()).suspendTenant(name, flags))
  tenant
    .command('resume')
    .description('serve a suspended tenant again')
    .argument('<name>')
    .addOption(output())
    .action(async (name, flags) => (await tenants()).resumeTenant(name, flags))
  tenant
    .command('rm')
    .description('remove a tenant for good, tokens included; its trail stays, its name is not given again')
    .argument('<name>')
    .option('--reason <text>', 'kept in the trail')
    .option('-f, --force', 'end its sandboxes, remove its volumes and images')
    .addOption(output())
    .action(async (name, flags) => (await tenants()).removeTenant(name, flags))
  tenant
    .command('history')
    .description('who made, limited, suspended and removed a tenant, and made and revoked its tokens')
    .argument('<name>')
    .addOption(output())
    .action(async (name, flags) => (await tenants()).tenantHistory(name, flags))
  tenant
    .command('token')
    .description('make a token for a tenant and print it; it is shown this once')
    .argument('<name>')
    .argument('[token-name]', 'who or what will use it', 'cli')
    .addOption(output())
    .action(async (name, tokenName, flags) => (await tenants()).createToken(name, tokenName, flags))
  tenant
    .command('tokens')
    .description("list a tenant's tokens")
    .argument('<name>')
    .addOption(output())
    .action(async (name, flags) => (await tenants()).listTokens(name, flags))
  tenant
    .command('revoke')
    .description('revoke tokens of a tenant, at once')
    .argument('<name>')
    .argument('[token-id...]')
    .option('--all', 'every token that is in use')
    .action(async (name, ids, flags) => (await tenants()).revokeTokens(name, ids, flags))
  program
    .command('refusals')
    .description('calls that were refused: token, permission, quota or rate, counted by minute')
    .option('--all', "everybody's; for operators")
    .option('--since <when>', 'a time, or how long ago (2h)')
    .option('-n, --limit <count>', 'at most so many', Number, 100)
    .addOption(output())
    .action(async (flags) => (await import('./commands/refusals.js')).refusals(flags))
}

function withLimitFlags(command: Command): Command {
  return command
    .option('--sandboxes <count>', 'alive at a time, or none for unlimited', unlimited(parseCount))
    .option('--execs <count>', 'open at a time, or none', unlimited(parseCount))
    .option('--cpu <cores>', 'reserved in all, or none', unlimited(parseCpu))
    .option('--memory <size>', 'reserved in all, or none', unlimited(parseSize))
    .option('--disk <size>', 'reserved in all, or none', unlimited(parseSize))
    .option('--commands-per-second <count>', 'or none', unlimited(parseCount))
    .option('--commands-burst <count>', 'at once after a pause', parseCount)
    .option('--requests-per-second <count>', 'or none', unlimited(parseCount))
    .option('--requests-burst <count>', 'at once after a pause', parseCount)
    .option('--nats-connections <count>', 'to the broker', parseCount)
    .option('--nats-subscriptions <count>', 'on the broker', parseCount)
    .option('--nats-payload <size>', 'of one message', parseSize)
}

/** The body of `POST /v1/tenants` and `PATCH /v1/tenants/:tenant` for these flags: only what was given. */
export function limitsBody({
  cpu,
  memory,
  disk,
  natsPayload,
  ...flags
}: LimitFlags): Record<string, number | null> {
  const { sandboxes, execs, commandsPerSecond, commandsBurst, requestsPerSecond, requestsBurst } = flags
  const { natsConnections, natsSubscriptions } = flags
  const all = {
    sandboxes,
    execs,
    cpuMillis: cpu,
    memoryBytes: memory,
    diskBytes: disk,
    commandsPerSecond,
    commandsBurst,
    requestsPerSecond,
    requestsBurst,
    natsConnections,
    natsSubscriptions,
    natsPayloadBytes: natsPayload,
  }
  const given = Object.entries(all).filter(([, value]) => value !== undefined)
  return Object.fromEntries(given.map(([name, value]) => [name, value === 'none' ? null : value!]))
}
