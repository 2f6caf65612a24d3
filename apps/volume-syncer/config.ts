/** The volume-syncer's configuration; docs/services-env.md is the reference for operators. */

import { z } from 'zod'
import { commonConfig, databaseUrl, metricsConfig } from '#libs/service'

export const volumeSyncerConfig = {
  ...commonConfig,
  ...metricsConfig(9_483),
  SANDTRAIL_DATABASE_URL: databaseUrl,
} as const

export type VolumeSyncerConfig = z.output<z.ZodObject<typeof volumeSyncerConfig>>
