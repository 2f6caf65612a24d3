/** The one nftables table of the routing netns. No rule names a single sandbox, so none is left behind by one. */

import { LINK_PREFIX, UPLINK } from './addressing.js'

/** What no sandbox may reach: IANA's special-purpose registry, less what is public after all. */
const REFUSED = [
  ...['0.0.0.0/8', '10.0.0.0/8', '100.64.0.0/10', '127.0.0.0/8', '169.254.0.0/16', '172.16.0.0/12'],
  ...['192.0.0.0/24', '192.0.2.0/24', '192.88.99.0/24', '192.168.0.0/16', '198.18.0.0/15'],
  ...['198.51.100.0/24', '203.0.113.0/24', '224.0.0.0/4', '240.0.0.0/4'],
]

/** Open connections of one sandbox: enough for a crawler, too few to fill the table that all share. */
const CONNECTIONS_MAX = 4096

const TABLE = 'inet sandtrail'

/** A whole ruleset for `nft -f -`, replacing what was there in one transaction. `extra`: CIDRs refused as well. */
export function ruleset(extra: readonly string[], hostAddresses: readonly string[]): string {
  return `
table ${TABLE}
delete table ${TABLE}
table ${TABLE} {
  set refused { type ipv4_addr; flags interval; auto-merge; ${elements([...REFUSED, ...extra])} }
  set host { type ipv4_addr; ${elements(hostAddresses)} }
  set connections { type ipv4_addr; size 65535; flags dynamic; }

  chain prerouting {
    type filter hook prerouting priority raw; policy accept;
    meta nfproto ipv6 counter drop
    # Each link is a network of its own: a source that would not be answered through it is forged.
    iifname "${LINK_PREFIX}*" fib saddr . iif oif missing counter drop
  }

  chain input {
    type filter hook input priority filter; policy drop;
    ct state established,related accept
    iifname "lo" accept
    # The resolver, and only at the gateway address of the sandbox's own link.
    iifname "${LINK_PREFIX}*" fib daddr . iif type local meta l4proto { tcp, udp } th dport 53 accept
    iifname "${LINK_PREFIX}*" fib daddr . iif type local icmp type echo-request limit rate 50/second accept
    iifname "${LINK_PREFIX}*" counter reject with icmpx admin-prohibited
  }

  chain forward {
    type filter hook forward priority filter; policy drop;
    ct state established,related accept
    iifname "${LINK_PREFIX}*" ip daddr @refused counter reject with icmpx admin-prohibited
    iifname "${LINK_PREFIX}*" ip daddr @host counter reject with icmpx admin-prohibited
    iifname "${LINK_PREFIX}*" ct state new add @connections { ip saddr ct count over ${CONNECTIONS_MAX} } counter drop
    iifname "${LINK_PREFIX}*" oifname "${UPLINK}" accept
  }

  chain postrouting {
    type nat hook postrouting priority srcnat; policy accept;
    oifname "${UPLINK}" masquerade
  }
}
`
}

/** The change of the host's addresses alone, in one transaction: connections and counters stay. */
export function hostAddressesUpdate(addresses: readonly string[]): string {
  const add = addresses.length > 0 ? `add element ${TABLE} host { ${addresses.join(', ')} }\n` : ''
  return `flush set ${TABLE} host\n${add}`
}

function elements(addresses: readonly string[]): string {
  return addresses.length > 0 ? `elements = { ${addresses.join(', ')} }` : ''
}
