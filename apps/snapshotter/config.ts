/** The snapshotter's configuration; docs/services-env.md is the reference for operators. */

import { z } from 'zod'
import { commonConfig, metricsConfig, secretFile } from '#libs/service'

const key32 = secretFile.transform((text, context) => {
  const key = Buffer.from(text, 'base64')
  if (key.length === 32) return key
  context.addIssue({ code: 'custom', message: 'must hold 32 bytes in base64' })
  return z.NEVER
})

export const snapshotterConfig = {
  ...commonConfig,
  ...metricsConfig(9_482),
  SANDTRAIL_DATABASE_URL: z.string().regex(/^postgres(ql)?:\/\//),
  /** How workers, and this service, reach the gateway, which serves the blobs. */
  SANDTRAIL_PUBLIC_URL: z.url({ protocol: /^https?$/ }).default('http://127.0.0.1:8480'),
  /** Signs the URLs of blobs. */
  SANDTRAIL_BLOB_KEY_FILE: key32,
} as const

export type SnapshotterConfig = z.output<z.ZodObject<typeof snapshotterConfig>>
