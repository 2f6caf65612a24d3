/** The OCI bundle of a sandbox: what runsc is told to start, as plain data. */

import type { SandboxId, SandboxSpec } from '#libs/domain'

/** Inside the sandbox. The names are reserved: an image's own content there is covered. */
export const GUEST = {
  agent: '/.sandtrail/agent',
  slots: '/.sandtrail/slots',
  /** Modal's SDKs expect what the host lends them under this name. */
  sockets: '/__modal',
  socketName: 'agent.sock',
  /** The filesystem tool that they run: a link in the sockets' directory to the agent, which is it by that name. */
  fsTools: '.bin/modal-sandbox-fs-tools',
} as const

export interface BundlePaths {
  /** The root subvolume. */
  root: string
  agentBinary: string
  sockets: string
  slots: string
  /** Generated /etc/hosts, /etc/hostname and, with a network, /etc/resolv.conf. */
  etc: string
}

export interface BundleInput {
  sandboxId: SandboxId
  spec: SandboxSpec
  token: string
  paths: BundlePaths
  /** Whether the root has a real directory /tmp. */
  bindTmp: boolean
  cgroupName: string
  /** The prepared netns; null: none but lo. */
  netnsPath: string | null
}

/**
 * The capabilities of the guest's root, which are capabilities over its own sentry and nothing of the host:
 * Docker's default set, SYS_ADMIN because binding a mount slot needs it, SYS_PTRACE for debuggers. NET_ADMIN is left
 * out: nothing that a guest sets on its interface would be believed anyway. gVisor itself drops NET_RAW.
 */
const CAPABILITIES = [
  ...['CHOWN', 'DAC_OVERRIDE', 'FOWNER', 'FSETID', 'KILL', 'MKNOD', 'NET_BIND_SERVICE', 'SETFCAP', 'SETGID'],
  ...['SETPCAP', 'SETUID', 'SYS_CHROOT', 'AUDIT_WRITE', 'NET_RAW', 'SYS_ADMIN', 'SYS_PTRACE'],
].map((name) => `CAP_${name}`)

/** Docker's own limit; a guest that opens more than the soft one asks for it itself. */
const FILES = { soft: 65_536, hard: 1_048_576 }
/** Under memory pressure of the host the kernel takes a sandbox before a service. */
const OOM_SCORE = 500
/** As Linux does for a plain tmpfs: half of the memory. */
const SHM_SHARE = 0.5

const PATH = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin'

/** The guest's hostname: its name made fit for one, else its id. */
export function hostnameOf(sandboxId: SandboxId, name: string | null): string {
  const fit = (name ?? '')
    .toLowerCase()
    .replace(/[^a-z0-9-]+/g, '-')
    .slice(0, 63)
    .replace(/^-+|-+$/g, '')
  return fit || sandboxId.toLowerCase()
}

/** `config.json`. It holds the agent's token: the file is 0600 in a directory of 0700. */
export function ociSpec(input: BundleInput): object {
  const { paths } = input
  return {
    ociVersion: '1.1.0',
    process: {
      terminal: false,
      user: { uid: 0, gid: 0 },
      args: [GUEST.agent, '--socket', `${GUEST.sockets}/${GUEST.socketName}`],
      env: [`SANDTRAIL_AGENT_TOKEN=${input.token}`, `PATH=${PATH}`],
      cwd: '/',
      capabilities: {
        bounding: CAPABILITIES,
        effective: CAPABILITIES,
        permitted: CAPABILITIES,
        inheritable: [],
      },
      rlimits: [
        { type: 'RLIMIT_NOFILE', ...FILES },
        { type: 'RLIMIT_CORE', soft: 0, hard: 0 },
      ],
      oomScoreAdj: OOM_SCORE,
    },
    root: { path: paths.root, readonly: false },
    hostname: hostnameOf(input.sandboxId, input.spec.name),
    mounts: [
      { destination: '/proc', type: 'proc', source: 'proc' },
      { destination: '/dev', type: 'tmpfs', source: 'tmpfs' },
      { destination: '/sys', type: 'sysfs', source: 'sysfs', options: ['ro', 'nosuid', 'noexec', 'nodev'] },
      {
        destination: '/dev/shm',
        type: 'tmpfs',
        source: 'shm',
        options: [
          'nosuid',
          'nodev',
          'mode=1777',
          `size=${Math.floor(input.spec.resources.memoryBytes * SHM_SHARE)}`,
        ],
      },
      // Without this gVisor covers an empty /tmp by a tmpfs, which a snapshot of the root would lose.
      ...(input.bindTmp ? [bind(`${paths.root}/tmp`, '/tmp', ['rw'])] : []),
      bind(`${paths.etc}/hosts`, '/etc/hosts', READ_ONLY),
      bind(`${paths.etc}/hostname`, '/etc/hostname', READ_ONLY),
      ...(input.netnsPath ? [bind(`${paths.etc}/resolv.conf`, '/etc/resolv.conf', READ_ONLY)] : []),
      bind(paths.agentBinary, GUEST.agent, READ_ONLY),
      // Read-only still lets the agent connect, and the guest cannot fill the host's disk through it.
      bind(paths.sockets, GUEST.sockets, READ_ONLY),
      bind(paths.slots, GUEST.slots, ['rw', 'rslave']),
    ],
    linux: {
      cgroupsPath: `/${input.cgroupName}`,
      // The cgroup exists by then and its limits with it; runsc only derives what the guest sees from these.
      resources: { memory: { limit: input.spec.resources.memoryBytes } },
      namespaces: [
        ...['pid', 'ipc', 'uts', 'mount'].map((type) => ({ type })),
        { type: 'network', ...(input.netnsPath ? { path: input.netnsPath } : {}) },
      ],
    },
  }
}

const READ_ONLY = ['ro', 'nosuid', 'nodev']

function bind(source: string, destination: string, options: string[]) {
  return { destination, type: 'bind', source, options: ['rbind', ...options] }
}

/** The generated files of /etc, by name. `address` is the guest's own; null: no network. */
export function etcFiles(hostname: string, network: { address: string; gateway: string } | null) {
  const hosts = ['127.0.0.1 localhost', `${network?.address ?? '127.0.1.1'} ${hostname}`]
  return {
    hosts: `${hosts.join('\n')}\n`,
    hostname: `${hostname}\n`,
    ...(network ? { 'resolv.conf': `nameserver ${network.gateway}\noptions edns0\n` } : {}),
  }
}
