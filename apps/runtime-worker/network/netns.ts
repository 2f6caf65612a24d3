/** Network namespaces by iproute2 and nsenter. Nothing here touches a sysctl or a rule of the host's own namespace. */

import { access, readdir } from 'node:fs/promises'
import { networkInterfaces } from 'node:os'
import { CommandFailed, run } from '../host/command.js'

const NETNS_DIR = '/run/netns'
/** Each call takes milliseconds; the kernel's teardown of many namespaces can hold one up. */
const CALL_MS_MAX = 15_000

export function netnsPath(name: string): string {
  return `${NETNS_DIR}/${name}`
}

export async function netnsExists(name: string): Promise<boolean> {
  return access(netnsPath(name)).then(
    () => true,
    () => false,
  )
}

export async function listNetns(): Promise<string[]> {
  return readdir(NETNS_DIR).catch(() => [])
}

/**
 * `ip netns add` mounts /run/netns onto itself when it is the first, and two first ones at once hide each other's
 * namespaces (6.1). So ours take turns, and note when the mount is theirs: the last one takes it away again.
 */
const LOCK = '/run/lock/sandtrail-netns'
const ADD = 'mountpoint -q /run/netns || echo ours >"$0"; exec ip netns add "$1"'
const RELEASE = '[ -s "$0" ] && [ -z "$(ls -A /run/netns)" ] && umount /run/netns && : >"$0"; exit 0'

/** A namespace without IPv6: no address of that family can appear in it. */
export async function addNetns(name: string): Promise<void> {
  await run('flock', [LOCK, 'sh', '-c', ADD, LOCK, name], { timeoutMs: CALL_MS_MAX })
  await setSysctl(name, ['ipv6/conf/all/disable_ipv6', 'ipv6/conf/default/disable_ipv6'], '1')
}

/** Idempotent. */
export async function deleteNetns(name: string): Promise<void> {
  if (await netnsExists(name)) await run('ip', ['netns', 'delete', name], { timeoutMs: CALL_MS_MAX })
  if ((await listNetns()).length > 0) return
  await run('flock', [LOCK, 'sh', '-c', RELEASE, LOCK], { timeoutMs: CALL_MS_MAX })
}

/** `keys` below /proc/sys/net, as a process inside the namespace sees them. */
export async function setSysctl(netns: string, keys: string[], value: string): Promise<void> {
  await runIn(
    netns,
    'tee',
    keys.map((key) => `/proc/sys/net/${key}`),
    value,
  )
}

/** Lines of `ip`, all in one call; in `netns`, or in the worker's own namespace when null. */
export async function ipBatch(netns: string | null, lines: string[]): Promise<void> {
  await run('ip', [...inNetns(netns), '-batch', '-'], {
    timeoutMs: CALL_MS_MAX,
    input: `${lines.join('\n')}\n`,
  })
}

export async function linkExists(netns: string, link: string): Promise<boolean> {
  const said = await run('ip', [...inNetns(netns), 'link', 'show', 'dev', link], { timeoutMs: CALL_MS_MAX })
    .then(() => true)
    .catch((error: unknown) => {
      // 1: no such device, or no such namespace. Anything else tells nothing about the link.
      if (error instanceof CommandFailed && error.exitCode === 1) return false
      throw error
    })
  return said
}

export async function runIn(netns: string, file: string, args: string[], input?: string): Promise<string> {
  return run('nsenter', [`--net=${netnsPath(netns)}`, file, ...args], {
    timeoutMs: CALL_MS_MAX,
    ...(input === undefined ? {} : { input }),
  })
}

/** The IPv4 addresses of a namespace; of the worker's own when null. Loopback is refused by its range already. */
export async function addressesOf(netns: string | null): Promise<string[]> {
  if (netns === null) {
    const all = Object.values(networkInterfaces()).flatMap((addresses) => addresses ?? [])
    return all.filter(({ family, internal }) => family === 'IPv4' && !internal).map(({ address }) => address)
  }
  const said = await run('ip', [...inNetns(netns), '-json', '-4', 'address'], { timeoutMs: CALL_MS_MAX })
  const links = JSON.parse(said) as { addr_info: { local: string }[] }[]
  return links.flatMap(({ addr_info }) => addr_info.map(({ local }) => local))
}

function inNetns(netns: string | null): string[] {
  return netns === null ? [] : ['-netns', netns]
}
