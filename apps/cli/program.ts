/** The command line: every command with its flags. What a command does is loaded when it is called. */

import { Command, Option } from 'commander'
import { usage } from './failure.js'
import { parseCpu, parseDuration, parseEnv, parseSize, parseTags, parseVolume } from './options.js'
import type { Format } from './print.js'
import { addTenantCommands } from './tenant-commands.js'

const collect = (value: string, before: string[] | undefined) => [...(before ?? []), value]
const repeatable = (flags: string, text: string) => new Option(flags, text).argParser(collect).default([], '')
const output = () => new Option('-o, --output <format>', 'table or json').choices(['table', 'json'])

/** Flags of `run` and `create`, as commander gives them. */
export interface SandboxFlags {
  image?: string
  volume: string[]
  env: string[]
  timeout?: number
  idleTimeout?: number
  cpu?: number
  memory?: number
  disk?: number
  network: 'none' | 'open'
  name?: string
  app?: string
  tag: string[]
  workdir?: string
  user?: string
}

/** Flags of `exec`. */
export interface ExecFlags {
  interactive?: boolean
  tty?: boolean
  detach?: boolean
  stdin: boolean
  env: string[]
  workdir?: string
  user?: string
  timeout?: number
  output?: Format
}

export function buildProgram(): Command {
  const program = new Command('sandtrail')
    .description('Isolated sandboxes on your own hosts, with the trail of everything that happened.')
    .version('0.1.0')
    .enablePositionalOptions()
    .exitOverride()
    .showSuggestionAfterError()
    .configureHelp({ sortSubcommands: false })
    .addHelpText('after', HELP)
  addSandboxCommands(program)
  addExecCommands(program)
  addTrailCommands(program)
  addStoreCommands(program)
  addAppCommands(program)
  addServerCommands(program)
  addOperatorCommands(program)
  addTenantCommands(program)
  return program
}

function addSandboxCommands(program: Command): void {
  withSandboxFlags(program.command('run'))
    .description('create a sandbox, run a command in it, and exit with its exit code')
    .argument('<command...>', 'the command and its arguments, after --')
    .option('-i, --interactive', 'forward stdin to the command')
    .option('-t, --tty', 'give the command a terminal')
    .option('-d, --detach', 'print the id of the sandbox and return')
    .option('--keep', 'leave the sandbox running when the command has ended')
    .option('--rm', 'without effect: the sandbox ends with its command anyway')
    .passThroughOptions()
    .action(async (command: string[], flags) =>
      (await import('./commands/run.js')).run(words(command), flags),
    )
  withSandboxFlags(program.command('create'))
    .description('create a sandbox and print its id')
    .argument('[command...]', 'its main command, after --; without one it lives until it is ended')
    .addOption(output())
    .passThroughOptions()
    .action(async (command: string[], flags) =>
      (await import('./commands/create.js')).create(words(command), flags),
    )
  program
    .command('ps')
    .alias('ls')
    .description('list sandboxes')
    .option('-a, --all', 'also those that have ended')
    .option('-q, --quiet', 'ids only')
    .addOption(repeatable('--state <state>', 'starting, running, stopping or ended'))
    .addOption(repeatable('--tag <K=V>', 'with this tag'))
    .option('--name <name>', 'with this name')
    .option('--app <app>', 'of this app (ap-…)')
    .option('-n, --limit <count>', 'at most so many', Number, 1000)
    .addOption(output())
    .action(async (flags) => (await import('./commands/ps.js')).ps(flags))
  program
    .command('describe')
    .description('a sandbox, why it is as it is, and its execs')
    .argument('<sandbox>', 'id, unique prefix or live name')
    .option('--at <time>', 'as it was then')
    .addOption(output())
    .action(async (sandbox, flags) => (await import('./commands/describe.js')).describe(sandbox, flags))
  program
    .command('tag')
    .description('replace all tags of a sandbox, also of one that has ended')
    .argument('<sandbox>')
    .argument('[tag...]', 'KEY=VALUE; none takes them all away')
    .action(async (sandbox, tags) => (await import('./commands/tag.js')).tag(sandbox, tags))
  program
    .command('name')
    .description('name a living sandbox that has no name')
    .argument('<sandbox>')
    .argument('<name>')
    .action(async (sandbox, name) => (await import('./commands/tag.js')).name(sandbox, name))
  program
    .command('logs')
    .description("output of a sandbox's main command")
    .argument('<sandbox>')
    .option('-f, --follow', 'until it has ended')
    .option('--raw', 'on a terminal too byte for byte: what drives it is left out otherwise')
    .action(async (sandbox, flags) => (await import('./commands/logs.js')).logs(sandbox, flags))
  program
    .command('wait')
    .description('wait for the end of a sandbox or an exec, and print its exit code')
    .argument('<id>', 'of a sandbox, or of an exec (ex-…)')
    .option('--timeout <duration>', 'at most so long, then exit with 124', parseDuration)
    .addOption(output())
    .action(async (id, flags) => (await import('./commands/wait.js')).wait(id, flags))
  program
    .command('rm')
    .description('end sandboxes; their history stays')
    .argument('<sandbox...>')
    .option('--no-wait', 'do not wait for the end')
    .action(async (sandboxes, flags) => (await import('./commands/rm.js')).rm(sandboxes, flags))
  for (const other of ['stop', 'kill', 'delete']) {
    program
      .command(other, { hidden: true })
      .argument('[word...]')
      .allowUnknownOption()
      .action(() => {
        throw usage(
          `there is no command ${other}`,
          '`sandtrail rm SANDBOX` ends a sandbox; its history stays',
        )
      })
  }
  program
    .command('snapshot')
    .description('snapshot the filesystem and print the id of the snapshot, which is an image')
    .argument('<sandbox>')
    .addOption(output())
    .action(async (sandbox, flags) => (await import('./commands/snapshot.js')).snapshot(sandbox, flags))
}

function addExecCommands(program: Command): void {
  program
    .command('exec')
    .description('run a command in a sandbox, and exit with its exit code')
    .argument('<sandbox>')
    .argument('<command...>', 'the command and its arguments, after --')
    .option('-i, --interactive', 'forward stdin, also from a terminal')
    .option('-t, --tty', 'give the command a terminal')
    .option('-d, --detach', 'print the id of the exec and return')
    .option('-n, --no-stdin', 'do not read stdin, also when it is a pipe')
    .addOption(repeatable('-e, --env <K=V>', 'K alone takes the value from here'))
    .option('-w, --workdir <path>', 'directory to run in')
    .option('-u, --user <user>', 'user to run as')
    .option('--timeout <duration>', 'end it after so long', parseDuration)
    .addOption(output())
    .passThroughOptions()
    .action(async (sandbox: string, command: string[], flags) =>
      (await import('./commands/exec.js')).exec(sandbox, words(command), flags),
    )
  program
    .command('attach')
    .description('the output of an exec from its beginning, until its end')
    .argument('<exec>')
    .option('-i, --interactive', 'forward stdin')
    .action(async (exec, flags) => (await import('./commands/attach.js')).attachTo(exec, flags))
  program
    .command('cp')
    .description('copy files and directories into a sandbox or out of it')
    .argument('<source>', 'a path, or SANDBOX:/path')
    .argument('<target>', 'a path, or SANDBOX:/path')
    .action(async (source, target) => (await import('./commands/cp.js')).cp(source, target))
}

function addTrailCommands(program: Command): void {
  program
    .command('history')
    .description('the events of a sandbox, an exec, an image or a volume')
    .argument('[sandbox]', 'id, unique prefix or name; with --at it may be left out: the whole fleet')
    .option('--at <time>', 'the state as it was then, rebuilt from the events')
    .addOption(output())
    .action(async (sandbox, flags) => (await import('./commands/history.js')).history(sandbox, flags))
  program
    .command('events')
    .description('events of everything, in the order of the ledger')
    .addOption(repeatable('--type <type>', 'SandboxFinished, "Exec*" or exec.*'))
    .option('--since <when>', 'a time, how long ago (2h), or after a position')
    .option('-f, --follow', 'go on with those that come')
    .option('-n, --limit <count>', 'at most so many', Number)
    .addOption(output())
    .action(async (flags) => (await import('./commands/events.js')).events(flags))
  program
    .command('verify')
    .description('verify the trail: through the gateway, or offline with a database and the file beside it')
    .argument('[stream]', 'only this one: id, unique prefix or name; offline the whole id')
    .option('--database-url <url>', 'offline: the database')
    .option('--trail-file <file>', 'offline: the trail outside the database')
    .option('--public-key <file>', 'offline: the key that checkpoints are signed with (trail.vkey)')
    .addOption(output())
    .action(async (stream, flags) => (await import('./commands/verify.js')).verify(stream, flags))
}

function addStoreCommands(program: Command): void {
  const image = program.command('image').description('images that sandboxes start from')
  const images = () => import('./commands/image.js')
  image
    .command('import')
    .description('import a root tarball and print the id of the image')
    .argument('<file>', 'a tarball; - for stdin')
    .requiredOption('--name <ref>', 'like alpine:3.21')
    .option('--shared', 'for all tenants; for operators')
    .addOption(output())
    .action(async (file, flags) => (await images()).importImage(file, flags))
  image
    .command('ls')
    .description('list images, those of the platform too')
    .addOption(output())
    .action(async (flags) => (await images()).listImages(flags))
  image
    .command('rm')
    .description('remove an image; sandboxes that run from it go on')
    .argument('<image>', 'name or id, or id of its snapshot')
    .option('--shared', 'one that is for all tenants; for operators')
    .action(async (reference, flags) => (await images()).removeImage(reference, flags))

  const volume = program.command('volume').description('named volumes and their versions')
  const volumes = () => import('./commands/volume.js')
  volume
    .command('create')
    .description('make a volume and print its id')
    .argument('<name>')
    .action(async (name) => (await volumes()).createVolume(name))
  volume
    .command('ls')
    .description('list volumes')
    .addOption(output())
    .action(async (flags) => (await volumes()).listVolumes(flags))
  volume
    .command('versions')
    .description('the versions of a volume')
    .argument('<volume>')
    .addOption(output())
    .action(async (reference, flags) => (await volumes()).listVersions(reference, flags))
  volume
    .command('commit')
    .description('make a version of what a sandbox wrote')
    .argument('<sandbox>')
    .argument('<volume>')
    .addOption(output())
    .action(async (sandbox, reference, flags) => (await volumes()).commit(sandbox, reference, flags))
  volume
    .command('reload')
    .description("bring a sandbox's mount to the newest version; what it has not committed is lost")
    .argument('<sandbox>')
    .argument('<volume>')
    .action(async (sandbox, reference) => (await volumes()).reload(sandbox, reference))
  volume
    .command('rm')
    .description('remove a volume that no sandbox mounts')
    .argument('<volume>')
    .action(async (reference) => (await volumes()).removeVolume(reference))
}

function addAppCommands(program: Command): void {
  const app = program.command('app').description('apps: what clients gather sandboxes under')
  const apps = () => import('./commands/app.js')
  app
    .command('ls')
    .description('list apps')
    .option('-a, --all', 'also those that were stopped')
    .option('--env <environment>', 'of this environment')
    .addOption(output())
    .action(async (flags) => (await apps()).listApps(flags))
  app
    .command('stop')
    .description('stop an app and end its sandboxes')
    .argument('<app>', 'id, or name')
    .option('--env <environment>', 'of the name (default main)')
    .action(async (reference, flags) => (await apps()).stopApp(reference, flags))
}

function addServerCommands(program: Command): void {
  const token = program.command('token').description('tokens for clients')
  const tokens = () => import('./commands/token.js')
  token
    .command('create')
    .description('make a token and print it; it is shown this once')
    .argument('[name]', 'who or what will use it', 'cli')
    .option('--operator', 'that may administer tenants and shared images; for operators')
    .addOption(output())
    .action(async (name, flags) => (await tokens()).createToken(name, flags))
  token
    .command('ls')
    .description('list tokens, without their secrets')
    .addOption(output())
    .action(async (flags) => (await tokens()).listTokens(flags))
  token
    .command('revoke')
    .description('refuse a token from now on')
    .argument('<id>')
    .action(async (id) => (await tokens()).revokeToken(id))
  program
    .command('login')
    .description('keep URL and token of a server; the token is read from stdin')
    .argument('<url>')
    .option('--token-stdin', 'read the token from stdin without asking')
    .option('--ca <file>', 'PEM of the authority of its certificate (https); kept too')
    .action(async (url, flags) => (await import('./commands/login.js')).login(url, flags))
  program
    .command('doctor')
    .description('check that each part can be reached, and say what to do')
    .addOption(output())
    .action(async (flags) => (await import('./commands/doctor.js')).doctor(flags))
}

function addOperatorCommands(program: Command): void {
  const worker = program.command('worker').description("workers; needs an operator's token")
  const workers = () => import('./commands/worker.js')
  worker
    .command('ls')
    .description('list workers and what they carry')
    .addOption(output())
    .action(async (flags) => (await workers()).listWorkers(flags))
  worker
    .command('cordon')
    .description('let no new sandbox go there; what runs goes on')
    .argument('<worker>')
    .option('--reason <text>', 'stands in the event')
    .action(async (id, flags) => (await workers()).cordon(id, flags))
  worker
    .command('uncordon')
    .description('let sandboxes go there again')
    .argument('<worker>')
    .action(async (id) => (await workers()).uncordon(id))
  worker
    .command('drain')
    .description('cordon it and wait until it is empty')
    .argument('<worker>')
    .option('--timeout <duration>', 'terminate what still runs after so long', parseDuration)
    .option('--reason <text>', 'stands in the event')
    .option('--no-wait', 'return at once; the drain goes on')
    .action(async (id, flags) => (await workers()).drain(id, flags))

  program
    .command('prune')
    .description("remove what is past keeping; each part does it by itself too. Needs an operator's token")
    .option('--dry-run', 'only tell what would be removed')
    .addOption(output())
    .action(async (flags) => (await import('./commands/prune.js')).prune(flags))

  const letter = program
    .command('dead-letter')
    .description("queued commands that could not be handled; needs an operator's token")
  const letters = () => import('./commands/dead-letter.js')
  letter
    .command('ls')
    .description('list them')
    .addOption(output())
    .action(async (flags) => (await letters()).listDeadLetters(flags))
  letter
    .command('show')
    .description('headers and body, without values of env and stdin')
    .argument('<number>')
    .action(async (number) => (await letters()).showDeadLetter(number))
  letter
    .command('redrive')
    .description('queue them again under their own command ids')
    .argument('<number...>')
    .action(async (numbers) => (await letters()).redriveDeadLetters(numbers))
  letter
    .command('rm')
    .description('remove them for good')
    .argument('<number...>')
    .action(async (numbers) => (await letters()).removeDeadLetters(numbers))
}

function withSandboxFlags(command: Command): Command {
  return command
    .option('--image <image>', 'name or id of an image, or id of a snapshot (default: base:latest)')
    .addOption(repeatable('-v, --volume <mount>', 'NAME:/path[:ro] or NAME@VERSION:/path:ro'))
    .addOption(repeatable('-e, --env <K=V>', 'K alone takes the value from here'))
    .option('--timeout <duration>', 'lifetime: 30s, 5m, 1h, at most 24h (default 5m)', parseDuration)
    .option('--idle-timeout <duration>', 'end it after so long without activity', parseDuration)
    .option('--cpu <cores>', 'cores, like 0.5 (default 0.125)', parseCpu)
    .option('--memory <size>', '256m, 1g (default 128m)', parseSize)
    .option('--disk <size>', 'disk that is reserved (default 1g); not a limit', parseSize)
    .addOption(new Option('--network <network>', 'none or open').choices(['none', 'open']).default('none'))
    .option('--name <name>', 'unique among the living ones')
    .option('--app <app>', 'the app (ap-…) that it belongs to: its name is unique there')
    .addOption(repeatable('--tag <K=V>', 'a tag'))
    .option('-w, --workdir <path>', 'directory of the main command')
    .option('-u, --user <user>', 'user of the main command')
}

/**
 * Commander leaves the `--` in place where options are passed through, and takes what comes before it as the program.
 *
 * @throws Rejected INVALID_ARGUMENT for options after the sandbox
 */
export function words(command: string[]): string[] {
  if (command[0] === '--') return command.slice(1)
  if (command[0]?.startsWith('-') && command.includes('--')) {
    throw usage(
      `${command[0]} stands after the sandbox, so it would be the program`,
      'options go before the sandbox: sandtrail exec [options] SANDBOX -- COMMAND',
    )
  }
  return command
}

/** The body of `POST /v1/sandboxes` for these flags. */
export function sandboxBody(flags: SandboxFlags, environment: NodeJS.ProcessEnv): Record<string, unknown> {
  return {
    image: flags.image ?? null,
    workdir: flags.workdir ?? null,
    user: flags.user ?? null,
    env: parseEnv(flags.env, environment),
    cpuMillis: flags.cpu ?? null,
    memoryBytes: flags.memory ?? null,
    diskBytes: flags.disk ?? null,
    timeoutMs: flags.timeout ?? null,
    idleTimeoutMs: flags.idleTimeout ?? null,
    network: flags.network,
    volumes: flags.volume.map(parseVolume),
    name: flags.name ?? null,
    tags: parseTags(flags.tag),
    appId: flags.app ?? null,
  }
}

const HELP = `
SANDTRAIL_URL and SANDTRAIL_TOKEN name the server and the token, else what \`sandtrail login\` kept.
SANDTRAIL_CA_FILE names the authority of an https server that is not one of the system's.

Exit codes: that of the command; 124 timed out, 125 lost or refused by us, 126 and 127 not run, 128+n signal n,
137 terminated; 2 usage, 3 not found, 4 token, 5 conflict, 6 no capacity, 7 unavailable, 8 verify failed.`
