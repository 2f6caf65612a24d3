/** Names and addresses of sandboxes' networks: everything follows from the instance and an index. */

/** All of 10.200.0.0/16 in pieces of four: a link's network, gateway, guest and broadcast address. */
export const LINKS_MAX = 2 ** 14
const PREFIX = 30
/** The routing netns' own link to the outside; 10.201.0.2 is slirp4netns. */
export const UPLINK_NETWORK = '10.201.0.0/24'
export const UPLINK = 'uplink'
/** Every link of a sandbox in the routing netns begins so; the rules match on it. */
export const LINK_PREFIX = 'sb'

export interface SandboxLink {
  index: number
  /** The sandbox's netns. */
  netns: string
  /** The veth's end in the routing netns. */
  link: string
  address: string
  gateway: string
  prefix: number
}

export function routingNetns(instance: string): string {
  return `st-${instance}`
}

/** `index`: 0 to LINKS_MAX - 1. */
export function sandboxLink(instance: string, index: number): SandboxLink {
  const at = (offset: number) => {
    const last = index * 4 + offset
    return `10.200.${last >> 8}.${last & 255}`
  }
  return {
    index,
    netns: `${routingNetns(instance)}-${index}`,
    link: `${LINK_PREFIX}${index}`,
    gateway: at(1),
    address: at(2),
    prefix: PREFIX,
  }
}

/** The index of a netns that is a sandbox's of this instance, else null. */
export function indexOf(instance: string, netns: string): number | null {
  const prefix = `${routingNetns(instance)}-`
  const rest = netns.startsWith(prefix) ? netns.slice(prefix.length) : ''
  return /^\d{1,5}$/.test(rest) ? Number(rest) : null
}
