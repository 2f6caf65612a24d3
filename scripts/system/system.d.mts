/** Types of system.mjs for the tests, which are TypeScript. */

export interface SystemOptions {
  /** State directory; without it the system is private and `stop` removes all that it has. */
  dir?: string
  /** 1 */
  schedulers?: number
  /** 1, each with a pool of its own. */
  workers?: number
  /** 1: `gateway`, `gateway-2`, ... */
  gateways?: number
  /** Directory of the logs; `logs` in the state directory. */
  logs?: string
  /** Further keys for the services that know them, such as SANDTRAIL_LEASE_GRACE_MS. */
  environment?: Record<string, string>
  /** Of a superuser of a Postgres that is this system's alone, instead of one that it starts. */
  postgresUrl?: string
  /** HTTP, NATS and Postgres by TLS alone, with certificates of the system's own (false). */
  tls?: boolean
  /** Import the base image as `base:latest` (true). */
  baseImage?: boolean
  /** Told what is being done. */
  say?: (line: string) => void
}

export interface System {
  dir: string
  /** Six hexadecimal digits, part of the name of everything that it makes on the host. */
  id: string
  /** What `.sandtrail/env` holds: for users of the system. */
  env: Record<string, string>
  /** Every live process: `scheduler-1`, `worker-1`, `gateway`, `snapshotter`, `volume-syncer`, `postgres`, `nats`. */
  services(): { name: string; pid: number; log: string; metrics: string | null }[]
  /** Of each gateway. */
  gatewayUrls: string[]
  /** Starts it unless it runs, and waits until it is ready. */
  start(name: string, options?: { failpoint?: string }): Promise<void>
  /** Sends a signal (SIGKILL); resolves when the process is gone, for signals that end one. */
  kill(name: string, signal?: NodeJS.Signals): Promise<void>
  /** Stops it in order, and starts it. */
  restart(name: string): Promise<void>
  /** Brings the broker's accounts to the table of tenants, `rotate`'s with a new password; each tenant's login. */
  syncTenants(rotate?: string): Promise<Record<string, { user: string; password: string }>>
  /** Ends every process and removes what they have on the host; of a private system everything. */
  stop(): Promise<void>
}

export function startSystem(options?: SystemOptions): Promise<System>
