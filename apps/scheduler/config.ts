/** The scheduler's configuration; docs/services-env.md is the reference for operators. */

import { z } from 'zod'
import { commonConfig, databaseUrl, integer, key32File, metricsConfig, signingKeyFile } from '#libs/service'

export const schedulerConfig = {
  ...commonConfig,
  ...metricsConfig(9_481),
  SANDTRAIL_DATABASE_URL: databaseUrl,
  /** Wraps the tenants' data keys; the key of command hashes is derived from it. */
  SANDTRAIL_MASTER_KEY_FILE: key32File,
  SANDTRAIL_TRAIL_FILE: z.string().min(1),
  /** Read by the signer itself: the value stays the path. */
  SANDTRAIL_TRAIL_KEY_FILE: z.string().superRefine((path, context) => {
    for (const { message } of signingKeyFile.safeParse(path).error?.issues ?? [])
      context.addIssue({ code: 'custom', message })
  }),
  /** The log's name in its checkpoints. */
  SANDTRAIL_TRAIL_ORIGIN: z
    .string()
    .regex(/^[^\s+]{1,200}$/)
    .default('sandtrail'),
  /** Source: the issue; a sandbox asks for 1/8 core and mostly waits. */
  SANDTRAIL_CPU_FACTOR: integer(1, 1024).default(16),
  SANDTRAIL_LEASE_GRACE_MS: integer(1_000, 3_600_000).default(30_000),
} as const

export type SchedulerConfig = z.output<z.ZodObject<typeof schedulerConfig>>
