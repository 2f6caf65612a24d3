/** What the gateway is told by its environment; docs/services-env.md has the table for all services. */

import type { KeyObject } from 'node:crypto'
import { z } from 'zod'
import {
  brokerSettings,
  commonConfig,
  databaseUrl,
  integer,
  key32File,
  metricsConfig,
  readConfig,
  type ServiceSettings,
  secretFile,
  serviceSettings,
  signingKeyFile,
} from '#libs/service'
import { readIdentity, type TlsIdentity } from '#libs/tls'

const SHAPE = {
  ...commonConfig,
  ...metricsConfig(9_480),
  SANDTRAIL_DATABASE_URL: databaseUrl,
  SANDTRAIL_HTTP_HOST: z.string().default('127.0.0.1'),
  /** 0: any free port, told in the log. */
  SANDTRAIL_HTTP_PORT: integer(0, 65_535).default(8480),
  /** PEM: its own certificate first, then those up to the authority. Read again when the file changes. */
  SANDTRAIL_HTTP_TLS_CERT_FILE: z.string().optional(),
  SANDTRAIL_HTTP_TLS_KEY_FILE: z.string().optional(),
  /** Of the Modal SDKs, on the same host and with the same certificate. 0: any free port, told in the log. */
  SANDTRAIL_MODAL_PORT: integer(0, 65_535).default(8481),
  SANDTRAIL_PUBLIC_URL: z.url({ protocol: /^https?$/ }).default('http://127.0.0.1:8480'),
  SANDTRAIL_DATA_PLANE_KEY_FILE: signingKeyFile,
  /** Wraps the tenants' keys, under which callers' secrets are sealed. */
  SANDTRAIL_MASTER_KEY_FILE: key32File,
  SANDTRAIL_BLOB_DIR: z.string(),
  SANDTRAIL_BLOB_KEY_FILE: key32File,
  /** Of blobs that no image needs: uploads that were not imported yet, imports that failed, removed images. */
  SANDTRAIL_BLOB_KEEP_HOURS: integer(2, 100_000).default(24),
  /** C2SP form, `origin+id+key`. Both or none: without them `verify` through the gateway is refused. */
  SANDTRAIL_TRAIL_PUBLIC_KEY_FILE: secretFile.optional(),
  SANDTRAIL_TRAIL_COPY: z.string().optional(),
} as const

const SECRET_FILES = [
  'SANDTRAIL_NATS_CREDENTIALS_FILE',
  'SANDTRAIL_DATA_PLANE_KEY_FILE',
  'SANDTRAIL_MASTER_KEY_FILE',
  'SANDTRAIL_BLOB_KEY_FILE',
  'SANDTRAIL_HTTP_TLS_KEY_FILE',
] as const

export interface GatewayConfig {
  nats: ReturnType<typeof brokerSettings>
  databaseUrl: string
  http: { host: string; port: number; tls: HttpTls | null }
  /** Where the Modal SDKs call. */
  modalPort: number
  publicUrl: string
  /** PEM of the authority of the installation's own certificates; undefined: the system's. */
  ca: string | undefined
  /** Files that nobody else may read. */
  secretFiles: string[]
  dataPlaneKey: KeyObject
  masterKey: Buffer
  blobs: { dir: string; key: Buffer; keepMs: number }
  /** What `verify` compares the database with; null: refused. */
  trail: { file: string; publicKey: string } | null
  logLevel: string
  service: ServiceSettings
}

export interface HttpTls {
  certFile: string
  keyFile: string
  current: TlsIdentity
}

/** @throws SandtrailError CONFIG_INVALID that lists every fault of the environment, without values */
export function gatewayConfig(env: NodeJS.ProcessEnv = process.env): GatewayConfig {
  const read = readConfig(SHAPE, env)
  const { SANDTRAIL_TRAIL_COPY: file, SANDTRAIL_TRAIL_PUBLIC_KEY_FILE: publicKey } = read
  return {
    nats: brokerSettings(read),
    databaseUrl: read.SANDTRAIL_DATABASE_URL,
    publicUrl: read.SANDTRAIL_PUBLIC_URL,
    modalPort: read.SANDTRAIL_MODAL_PORT,
    http: { host: read.SANDTRAIL_HTTP_HOST, port: read.SANDTRAIL_HTTP_PORT, tls: httpTls(read) },
    ca: read.SANDTRAIL_CA_FILE,
    secretFiles: SECRET_FILES.flatMap((key) => env[key] || []),
    masterKey: read.SANDTRAIL_MASTER_KEY_FILE,
    dataPlaneKey: read.SANDTRAIL_DATA_PLANE_KEY_FILE,
    blobs: {
      dir: read.SANDTRAIL_BLOB_DIR,
      key: read.SANDTRAIL_BLOB_KEY_FILE,
      keepMs: read.SANDTRAIL_BLOB_KEEP_HOURS * 3_600_000,
    },
    trail: file !== undefined && publicKey !== undefined ? { file, publicKey } : null,
    logLevel: read.SANDTRAIL_LOG_LEVEL,
    service: serviceSettings(read),
  }
}

/** Both are there or none, and they fit: `readConfig` has looked. */
function httpTls(read: {
  SANDTRAIL_HTTP_TLS_CERT_FILE?: string | undefined
  SANDTRAIL_HTTP_TLS_KEY_FILE?: string | undefined
}): HttpTls | null {
  const { SANDTRAIL_HTTP_TLS_CERT_FILE: certFile, SANDTRAIL_HTTP_TLS_KEY_FILE: keyFile } = read
  if (certFile === undefined || keyFile === undefined) return null
  return { certFile, keyFile, current: readIdentity(certFile, keyFile) }
}
