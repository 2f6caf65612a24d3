/** What the gateway is told by its environment; docs/services-env.md has the table for all services. */

import { createPrivateKey, type KeyObject } from 'node:crypto'
import { z } from 'zod'
import {
  commonConfig,
  integer,
  key32File,
  metricsConfig,
  privateFile,
  readConfig,
  type ServiceSettings,
  secretFile,
  serviceSettings,
} from '#libs/service'

const privateKeyFile = privateFile.transform((pem, context): KeyObject => {
  try {
    return createPrivateKey(pem)
  } catch {
    context.addIssue({ code: 'custom', message: 'must hold an Ed25519 private key as PKCS#8 PEM' })
    return z.NEVER
  }
})

const SHAPE = {
  ...commonConfig,
  ...metricsConfig(9_480),
  SANDTRAIL_DATABASE_URL: z.string().regex(/^postgres(ql)?:\/\//, 'must be a postgres:// URL'),
  SANDTRAIL_HTTP_HOST: z.string().default('127.0.0.1'),
  /** 0: any free port, told in the log. */
  SANDTRAIL_HTTP_PORT: integer(0, 65_535).default(8480),
  SANDTRAIL_PUBLIC_URL: z.url().default('http://127.0.0.1:8480'),
  SANDTRAIL_DATA_PLANE_KEY_FILE: privateKeyFile,
  SANDTRAIL_BLOB_DIR: z.string(),
  SANDTRAIL_BLOB_KEY_FILE: key32File,
  /** Of blobs that no image needs: uploads that were not imported yet, imports that failed, removed images. */
  SANDTRAIL_BLOB_KEEP_HOURS: integer(2, 100_000).default(24),
  /** C2SP form, `origin+id+key`. Both or none: without them `verify` through the gateway is refused. */
  SANDTRAIL_TRAIL_PUBLIC_KEY_FILE: secretFile.optional(),
  SANDTRAIL_TRAIL_COPY: z.string().optional(),
} as const

export interface GatewayConfig {
  nats: {
    url: string
    credentials: { user: string; password: string } | { nkeySeed: string }
  }
  databaseUrl: string
  http: { host: string; port: number }
  publicUrl: string
  dataPlaneKey: KeyObject
  blobs: { dir: string; key: Buffer; keepMs: number }
  /** What `verify` compares the database with; null: refused. */
  trail: { file: string; publicKey: string } | null
  logLevel: string
  service: ServiceSettings
}

/** @throws Error that lists every fault of the environment, without values */
export function gatewayConfig(env: NodeJS.ProcessEnv = process.env): GatewayConfig {
  const read = readConfig(SHAPE, env)
  const { SANDTRAIL_TRAIL_COPY: file, SANDTRAIL_TRAIL_PUBLIC_KEY_FILE: publicKey } = read
  return {
    nats: { url: read.SANDTRAIL_NATS_URL, credentials: read.SANDTRAIL_NATS_CREDENTIALS_FILE },
    databaseUrl: read.SANDTRAIL_DATABASE_URL,
    publicUrl: read.SANDTRAIL_PUBLIC_URL,
    http: { host: read.SANDTRAIL_HTTP_HOST, port: read.SANDTRAIL_HTTP_PORT },
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
