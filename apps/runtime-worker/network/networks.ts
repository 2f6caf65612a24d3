/**
 * Networks of sandboxes with `network: open`: one netns each, joined by a veth pair to the routing netns of this worker.
 * The routing netns and its daemons are started for the first sandbox that wants a network.
 */

import { SandtrailError } from '#libs/domain'
import type { Log } from '#libs/service'
import { Liveness } from '../host/liveness.js'
import { indexOf, LINKS_MAX, routingNetns, type SandboxLink, sandboxLink } from './addressing.js'
import { type DaemonName, Daemons } from './daemons.js'
import * as netns from './netns.js'
import { hostAddressesUpdate, ruleset } from './ruleset.js'

export interface NetworkOptions {
  instance: string
  /** The worker's own directory for this; made when needed. */
  dir: string
  /** `ip:port`, not on loopback: the resolver runs in a namespace that has another one. */
  dnsUpstream: string
  /** Refused to sandboxes besides the private ranges: the host's public address behind a NAT, for one. */
  refused?: readonly string[]
  /** The namespace whose addresses and routes the traffic leaves by; the worker's own by default. */
  hostNetns?: string | null
  log: Log
}

/** Made ahead of need, since one takes about 30 ms: a burst of two creates does not wait for it. */
export const SPARES = 2
/** A new address of the host is refused to sandboxes after this long at the latest. */
const REFRESH_MS = 5_000
const RESTART_MS = 1_000

export class SandboxNetworks {
  private readonly daemons: Daemons
  private readonly liveness = new Liveness()
  private readonly routing: string
  private readonly used = new Set<number>()
  private spares: Promise<SandboxLink>[] = []
  private next = 0
  private hostAddresses = ''
  private started: Promise<void> | null = null
  private timer: NodeJS.Timeout | null = null
  private stopped = false

  constructor(private readonly options: NetworkOptions) {
    this.routing = routingNetns(options.instance)
    this.daemons = new Daemons({
      dir: options.dir,
      cgroupName: `sandtrail-${options.instance}/network`,
      netns: this.routing,
      hostNetns: options.hostNetns ?? null,
      dnsUpstream: options.dnsUpstream,
    })
  }

  /**
   * Sets an index aside, so that it can be written down before `make`. A spare netns has one already.
   */
  async reserve(): Promise<SandboxLink> {
    const spare = this.spares.shift()
    if (spare) {
      const link = await spare.catch(() => null)
      if (link) return link
    }
    return this.allocate()
  }

  /** Makes the network of a reserved index ready; at once when it was a spare. */
  async make(link: SandboxLink): Promise<void> {
    await this.start()
    if (!(await netns.netnsExists(link.netns))) await this.build(link)
    await this.refreshHostAddresses()
    this.refill()
  }

  /** Idempotent. The veth's end in the routing netns is deleted first: the kernel frees a netns when it likes. */
  async remove(index: number): Promise<void> {
    const link = sandboxLink(this.options.instance, index)
    if (await this.linkIsThere(link)) {
      await netns.ipBatch(this.routing, [`link delete dev ${link.link}`])
    }
    await netns.deleteNetns(link.netns)
    this.used.delete(index)
  }

  async exists(index: number): Promise<boolean> {
    const link = sandboxLink(this.options.instance, index)
    return (await netns.netnsExists(link.netns)) || (await this.linkIsThere(link))
  }

  /** Takes over the network of a sandbox that lives on from a former life of the worker. */
  async adopt(index: number): Promise<void> {
    this.used.add(index)
    // Behind the newest, so that an address is not given away again soon after its sandbox ended.
    this.next = Math.max(this.next, index + 1) % LINKS_MAX
    await this.start()
  }

  /** Lets go of the routing netns; removes it with its daemons and the spares when no sandbox uses a network. */
  async stop(): Promise<void> {
    this.stopped = true
    if (this.timer) clearInterval(this.timer)
    this.liveness.stop()
    await this.started?.catch(() => {})
    const spares = await Promise.allSettled(this.spares.splice(0))
    for (const spare of spares) if (spare.status === 'fulfilled') this.used.delete(spare.value.index)
    await this.removeUnused()
  }

  /** Removes every network of this instance that no sandbox uses; the shared part too, unless it was started here. */
  async removeUnused(): Promise<void> {
    const found = (await netns.listNetns()).map((name) => indexOf(this.options.instance, name))
    for (const index of found) if (index !== null && !this.used.has(index)) await this.remove(index)
    if (this.used.size > 0 || (this.started && !this.stopped)) return
    await this.daemons.killAll()
    await netns.deleteNetns(this.routing)
  }

  private allocate(): SandboxLink {
    for (let tries = 0; tries < LINKS_MAX; tries++) {
      const index = this.next
      this.next = (this.next + 1) % LINKS_MAX
      if (this.used.has(index)) continue
      this.used.add(index)
      return sandboxLink(this.options.instance, index)
    }
    throw new Error(`all ${LINKS_MAX} networks of this worker are in use`)
  }

  private refill(): void {
    while (!this.stopped && this.spares.length < SPARES) {
      const link = this.allocate()
      const spare = this.build(link).then(() => link)
      spare.catch((error: unknown) => {
        this.options.log.warn({ err: error }, 'cannot make a spare network')
        void this.remove(link.index).catch(() => {})
      })
      this.spares.push(spare)
    }
  }

  private async build(link: SandboxLink): Promise<void> {
    await netns.addNetns(link.netns)
    await netns.ipBatch(null, [
      `link add ${link.link} netns ${this.routing} type veth peer name eth0 netns ${link.netns}`,
    ])
    await Promise.all([
      netns.ipBatch(this.routing, [
        `address add ${link.gateway}/${link.prefix} dev ${link.link}`,
        `link set ${link.link} up`,
      ]),
      netns.ipBatch(link.netns, [
        'link set lo up',
        `address add ${link.address}/${link.prefix} dev eth0`,
        'link set eth0 up',
        `route add default via ${link.gateway}`,
      ]),
    ])
  }

  private async linkIsThere(link: SandboxLink): Promise<boolean> {
    return (await netns.netnsExists(this.routing)) && (await netns.linkExists(this.routing, link.link))
  }

  /** Once; a failure is forgotten, so that the next sandbox tries again. */
  private start(): Promise<void> {
    this.started ??= this.startRouting().catch((error: unknown) => {
      this.started = null
      throw error
    })
    return this.started
  }

  private async startRouting(): Promise<void> {
    if (this.options.dnsUpstream.startsWith('127.')) {
      throw new SandtrailError('UNAVAILABLE', 'the resolver of open networks cannot reach one on loopback', {
        hint: 'set SANDTRAIL_DNS_UPSTREAM to an address of the network, with systemd-resolved that of its own upstream',
        retryable: false,
      })
    }
    if (!(await netns.netnsExists(this.routing))) await netns.addNetns(this.routing)
    // All idempotent, because a former life may have got anywhere. Rules before forwarding before the way out.
    const addresses = await netns.addressesOf(this.options.hostNetns ?? null)
    await netns.runIn(this.routing, 'nft', ['-f', '-'], ruleset(this.options.refused ?? [], addresses))
    this.hostAddresses = addresses.join()
    await netns.setSysctl(this.routing, ['ipv4/ip_forward'], '1')
    await netns.ipBatch(this.routing, ['link set lo up'])
    await Promise.all([this.keep('uplink'), this.keep('resolver')])
    this.timer = setInterval(() => {
      this.refreshHostAddresses().catch((error: unknown) => {
        this.options.log.error({ err: error }, 'cannot refresh the addresses that sandboxes are refused')
      })
    }, REFRESH_MS).unref()
  }

  /** Starts a daemon, or finds the one that runs, and starts it again whenever it dies. */
  private async keep(name: DaemonName): Promise<void> {
    const process = (await this.daemons.find(name)) ?? (await this.daemons.start(name))
    void this.liveness.untilDead(process).then(() => this.restart(name))
  }

  private restart(name: DaemonName): void {
    if (this.stopped) return
    this.options.log.warn({ daemon: name }, 'a network daemon has died and is started again')
    this.keep(name).catch((error: unknown) => {
      this.options.log.error({ err: error, daemon: name }, 'cannot start a network daemon')
      setTimeout(() => this.restart(name), RESTART_MS).unref()
    })
  }

  private async refreshHostAddresses(): Promise<void> {
    const addresses = await netns.addressesOf(this.options.hostNetns ?? null)
    if (addresses.join() === this.hostAddresses) return
    await netns.runIn(this.routing, 'nft', ['-f', '-'], hostAddressesUpdate(addresses))
    this.hostAddresses = addresses.join()
  }
}
