/**
 * The two programs behind every open network, one of each per worker: slirp4netns carries what leaves the routing netns
 * (through ordinary sockets of the host, so no forwarding, no rule and no sysctl there), dnsmasq answers the sandboxes'
 * queries. They outlive the worker, because the sandboxes do, and are found again by their identity.
 */

import { spawn } from 'node:child_process'
import { mkdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { SandtrailError } from '#libs/domain'
import { writeDurably } from '#libs/storage'
import { createCgroup, endCgroup, joinFile } from '../cgroup/index.js'
import { TOOL_PATH } from '../host/command.js'
import { identify, isAlive, type ProcessIdentity } from '../host/process.js'
import { until } from '../host/wait.js'
import { LINK_PREFIX, UPLINK, UPLINK_NETWORK } from './addressing.js'
import { linkExists, netnsPath, runIn } from './netns.js'

export type DaemonName = 'uplink' | 'resolver'

export interface DaemonOptions {
  /** Where their identities are kept. */
  dir: string
  /** Both are in it; whatever else becomes of them, it empties. */
  cgroupName: string
  /** The routing netns. */
  netns: string
  /** The namespace whose addresses and routes the traffic leaves by; null: the worker's own. */
  hostNetns: string | null
  /** `ip:port` of the resolver that queries are forwarded to. */
  dnsUpstream: string
}

const START_MS_MAX = 10_000
const KILL_MS_MAX = 5_000
/** Generous: slirp4netns uses 4 MB idle and some tens of kB per connection. */
const LIMITS = { memoryBytes: 512 * 1024 ** 2, cpuMillis: 1000, cpuLimitMillis: null, pidsMax: 64 }

export class Daemons {
  constructor(private readonly options: DaemonOptions) {}

  /** The running one, of this or a former life of the worker; null when there is none. */
  async find(name: DaemonName): Promise<ProcessIdentity | null> {
    const text = await readFile(this.identityFile(name), 'utf8').catch(() => null)
    if (text === null) return null
    const identity = JSON.parse(text) as ProcessIdentity
    return isAlive(identity) ? identity : null
  }

  /** Starts it and resolves when it serves. */
  async start(name: DaemonName): Promise<ProcessIdentity> {
    await mkdir(this.options.dir, { recursive: true, mode: 0o700 })
    createCgroup(this.options.cgroupName, LIMITS)
    const identity = await this.launch(name === 'uplink' ? this.uplink() : this.resolver())
    await writeDurably(this.identityFile(name), JSON.stringify(identity))
    const serves = () => this.serves(name)
    const isDecided = async () => !isAlive(identity) || (await serves())
    await until(isDecided, { timeoutMs: START_MS_MAX, everyMs: 10 })
    if (!(await serves())) {
      const program = name === 'uplink' ? 'slirp4netns' : 'dnsmasq'
      throw new SandtrailError('UNAVAILABLE', `${program} does not serve the sandboxes' network`, {
        hint: `is ${program} installed? \`make setup\` brings it`,
      })
    }
    return identity
  }

  async killAll(): Promise<void> {
    await endCgroup(this.options.cgroupName, KILL_MS_MAX)
  }

  private identityFile(name: DaemonName): string {
    return join(this.options.dir, `${name}.json`)
  }

  /** It joins the cgroup before it becomes the program, so `killAll` cannot miss it. */
  private async launch(command: string[]): Promise<ProcessIdentity> {
    const args = ['-c', 'echo $$ >"$0" && exec "$@"', joinFile(this.options.cgroupName), ...command]
    const child = spawn('/bin/sh', args, { stdio: 'ignore', detached: true, env: { PATH: TOOL_PATH } })
    child.unref()
    await new Promise<void>((resolve, reject) => {
      child.once('spawn', resolve)
      child.once('error', reject)
    })
    // The exec keeps pid and start time: the shell's identity is the program's.
    const identity = identify(child.pid ?? 0)
    if (identity === null) throw new Error(`${command[0]} ended at once`)
    return identity
  }

  private uplink(): string[] {
    const { hostNetns, netns } = this.options
    return [
      ...(hostNetns === null ? [] : ['nsenter', `--net=${netnsPath(hostNetns)}`]),
      // Its sandbox unmounts everything, and without this the unmounts reach the host's shared /run/netns (1.2.0).
      ...['unshare', '--mount', '--propagation=private'],
      ...['slirp4netns', '--netns-type=path', '--configure', '--mtu=65520', `--cidr=${UPLINK_NETWORK}`],
      // It parses what guests send: no file system, no capability, few system calls, and no way to loopback.
      ...['--enable-sandbox', '--enable-seccomp', '--disable-host-loopback', '--disable-dns'],
      ...[netnsPath(netns), UPLINK],
    ]
  }

  private resolver(): string[] {
    const [address, port = '53'] = this.options.dnsUpstream.split(':')
    return [
      ...['nsenter', `--net=${netnsPath(this.options.netns)}`],
      ...[
        'dnsmasq',
        '--keep-in-foreground',
        '--conf-file=/dev/null',
        '--pid-file=',
        '--log-facility=/dev/null',
      ],
      ...['--user=nobody', '--group=nogroup', '--no-hosts', '--no-resolv', `--server=${address}#${port}`],
      ...['--cache-size=1000', '--dns-forward-max=500', `--interface=${LINK_PREFIX}*`, '--interface=lo'],
    ]
  }

  private async serves(name: DaemonName): Promise<boolean> {
    const { netns } = this.options
    if (name === 'uplink') {
      if (!(await linkExists(netns, UPLINK))) return false
      return (await runIn(netns, 'ip', ['-4', 'route', 'show', 'default'])).includes(UPLINK)
    }
    return (await runIn(netns, 'ss', ['-Hlun', 'sport', '=', ':53'])) !== ''
  }
}
