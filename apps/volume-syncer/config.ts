/** The volume-syncer's configuration; docs/services-env.md is the reference for operators. */

import { z } from 'zod'
import { commonConfig } from '#libs/service'

export const volumeSyncerConfig = {
  ...commonConfig,
  SANDTRAIL_DATABASE_URL: z.string().regex(/^postgres(ql)?:\/\//),
} as const

export type VolumeSyncerConfig = z.output<z.ZodObject<typeof volumeSyncerConfig>>
