/** The snapshotter's configuration; docs/services-env.md is the reference for operators. */

import { z } from 'zod'
import { commonConfig, databaseUrl, key32File, metricsConfig } from '#libs/service'

export const snapshotterConfig = {
  ...commonConfig,
  ...metricsConfig(9_482),
  SANDTRAIL_DATABASE_URL: databaseUrl,
  /** How workers, and this service, reach the gateway, which serves the blobs. */
  SANDTRAIL_PUBLIC_URL: z.url({ protocol: /^https?$/ }).default('http://127.0.0.1:8480'),
  /** Signs the URLs of blobs. */
  SANDTRAIL_BLOB_KEY_FILE: key32File,
} as const

export type SnapshotterConfig = z.output<z.ZodObject<typeof snapshotterConfig>>
