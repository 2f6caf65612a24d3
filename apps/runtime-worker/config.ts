import { createPublicKey, type KeyObject } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { cpus, totalmem } from 'node:os'
import { z } from 'zod'
import { isId, type WorkerId } from '#libs/domain'
import { commonConfig, integer, metricsConfig, readConfig, secretFile } from '#libs/service'

const GIB = 1024 ** 3

/** An Ed25519 public key, SPKI PEM. */
const publicKeyFile = secretFile.transform((pem, context): KeyObject => {
  try {
    const key = createPublicKey(pem)
    if (key.asymmetricKeyType === 'ed25519') return key
  } catch {
    // Told below.
  }
  context.addIssue({ code: 'custom', message: 'must hold an Ed25519 public key as PEM' })
  return z.NEVER
})

const shape = {
  ...commonConfig,
  ...metricsConfig(9_484),
  SANDTRAIL_WORKER_ID: z.custom<WorkerId>((value) => isId('wk', value), 'must be wk- and a ULID'),
  /** In the name of every netns, link, nft table and cgroup of this worker; link names have 15 characters. */
  SANDTRAIL_INSTANCE: z.string().regex(/^[0-9a-f]{6,12}$/, 'must be 6 to 12 of 0-9 and a-f'),
  SANDTRAIL_WORKER_STATE_DIR: z.string().startsWith('/'),
  /** `fake` runs the agent as a plain process of this host: no isolation at all, for load and simulation only. */
  SANDTRAIL_RUNTIME: z.enum(['gvisor', 'fake']).default('gvisor'),
  SANDTRAIL_POOL_DIR: z.string().startsWith('/').optional(),
  SANDTRAIL_RUNSC: z.string().startsWith('/').optional(),
  SANDTRAIL_RUNSC_PLATFORM: z.enum(['systrap', 'ptrace']).default('systrap'),
  SANDTRAIL_AGENT: z.string().startsWith('/'),
  SANDTRAIL_DATA_PLANE_HOST: z.string().default('127.0.0.1'),
  SANDTRAIL_DATA_PLANE_PORT: integer(0, 65_535).default(0),
  SANDTRAIL_DATA_PLANE_PUBLIC_KEY_FILE: publicKeyFile,
  /** 1 GiB stays with the host and the services. */
  SANDTRAIL_MEMORY_BYTES: integer(GIB / 8, 1024 * GIB).default(Math.max(totalmem() - GIB, GIB / 8)),
  SANDTRAIL_CPU_MILLIS: integer(1, 1_024_000).default(cpus().length * 1000),
  /** Output kept of each stream. */
  SANDTRAIL_SPOOL_BYTES_MAX: integer(1, 1024 * GIB).default(2 * GIB),
  /** Output of an exec after its end. */
  SANDTRAIL_SPOOL_KEEP_HOURS: integer(1, 100_000).default(7 * 24),
  /** Output kept of all execs of a sandbox: two streams at their limit, and as much again. */
  SANDTRAIL_SPOOL_SANDBOX_BYTES_MAX: integer(1, 1024 * GIB).default(8 * GIB),
  /** Of the state's disk, kept free of output for journals: some 50,000 execs of facts. */
  SANDTRAIL_STATE_RESERVE_BYTES: integer(0, 1024 * GIB).default(GIB / 4),
  SANDTRAIL_DNS_UPSTREAM: z
    .string()
    .regex(/^.+:\d+$/, 'must be ip:port')
    .default(resolverOfHost),
  /** The named netns whose addresses and routes the sandboxes' traffic leaves by; without it the worker's own. */
  SANDTRAIL_UPLINK_NETNS: z
    .string()
    .regex(/^[A-Za-z0-9_-][A-Za-z0-9_.-]{0,63}$/, 'must be the name of a network namespace')
    .optional(),
  /** Refused to sandboxes besides the private ranges. */
  SANDTRAIL_REFUSED_NETWORKS: z
    .string()
    .transform((text) => text.split(','))
    .pipe(z.array(z.union([z.cidrv4(), z.ipv4()], 'must be IPv4 networks like 198.51.100.0/24, with commas')))
    .optional(),
} as const

export type WorkerConfig = ReturnType<typeof readWorkerConfig>

/** @throws Error that lists every fault. */
export function readWorkerConfig(env: NodeJS.ProcessEnv = process.env) {
  return readConfig(shape, env)
}

function resolverOfHost(): string {
  const address = /^nameserver\s+(\S+)/m.exec(readFileSync('/etc/resolv.conf', 'utf8'))?.[1]
  return `${address ?? '127.0.0.1'}:53`
}
