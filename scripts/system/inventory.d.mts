/** The host's processes of ours, mounts, namespaces, links, nft tables, cgroups, loops and sockets: sorted JSON lines. */
export function inventory(filter?: { /** Of a system: only what is named after it. */ id?: string }): Promise<string[]>
