/** Configuration from the environment: one schema per service, read once in `main`, all faults told at once. */

import { readFileSync, statSync } from 'node:fs'
import { z } from 'zod'
import type { ServiceSettings } from './lifecycle.js'

/**
 * Reads the keys of `shape` from `env`. An unknown `SANDTRAIL_*` key is a fault too: a misspelt one must not be
 * silently ignored.
 *
 * @throws Error that lists every fault, one a line, without any value.
 */
export function readConfig<S extends z.ZodRawShape>(
  shape: S,
  env: NodeJS.ProcessEnv = process.env,
): z.output<z.ZodObject<S>> {
  const given = Object.entries(env).filter(([key, value]) => key.startsWith('SANDTRAIL_') && value !== '')
  const result = z.strictObject(shape).safeParse(Object.fromEntries(given))
  if (result.success) return result.data as z.output<z.ZodObject<S>>
  const faults = result.error.issues.map((issue) =>
    issue.code === 'unrecognized_keys'
      ? `  ${issue.keys.join(', ')}: unknown key`
      : `  ${issue.path.join('.')}: ${issue.message}`,
  )
  throw new Error(`the configuration is not usable:\n${faults.join('\n')}`)
}

/** A number given as text, within bounds. */
export function integer(min: number, max: number) {
  return z.string().regex(/^\d+$/, 'must be a whole number').transform(Number).pipe(z.int().min(min).max(max))
}

/** A path whose file is read at start; the value is the file's content without the trailing newline. */
export const secretFile = z.string().transform((path, context) => {
  try {
    return readFileSync(path, 'utf8').trimEnd()
  } catch {
    context.addIssue({ code: 'custom', message: `cannot read the file ${path}` })
    return z.NEVER
  }
})

/** The same, refused when others than its owner can read or change it. */
export const privateFile = z
  .string()
  .refine((path) => ((statSync(path, { throwIfNoEntry: false })?.mode ?? 0) & 0o077) === 0, {
    error: ({ input }) => `others can read the file ${input}: chmod 600 it`,
    abort: true,
  })
  .pipe(secretFile)

/** A symmetric key: 32 bytes in base64, in a file that nobody else can read. */
export const key32File = privateFile.transform((text, context): Buffer => {
  const key = Buffer.from(text, 'base64')
  if (key.length === 32) return key
  context.addIssue({ code: 'custom', message: 'must hold 32 bytes in base64' })
  return z.NEVER
})

/** A file of NATS credentials: `{"user","password"}` or `{"nkeySeed"}`. */
export const natsCredentialsFile = secretFile.transform((content, context) => {
  const parsed = z
    .union([
      z.strictObject({ user: z.string(), password: z.string() }),
      z.strictObject({ nkeySeed: z.string() }),
    ])
    .safeParse(parseJson(content))
  if (parsed.success) return parsed.data
  context.addIssue({ code: 'custom', message: 'must hold {"user","password"} or {"nkeySeed"}' })
  return z.NEVER
})

/** Undefined for what is no JSON: the error of the parser would quote the secret. */
function parseJson(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}

/** Keys that every service has. */
export const commonConfig = {
  SANDTRAIL_NATS_URL: z.string().regex(/^(nats|tls):\/\//),
  SANDTRAIL_NATS_CREDENTIALS_FILE: natsCredentialsFile,
  /** Written when the service is ready, removed at its end; supervisors and tests wait for it. */
  SANDTRAIL_READY_FILE: z.string().optional(),
  SANDTRAIL_LOG_LEVEL: z.enum(['debug', 'info', 'warn', 'error']).default('info'),
} as const

/** Where a service serves /metrics, /healthz and /readyz. `port`: its default, another one in each service. */
export const metricsConfig = (port: number) =>
  ({
    SANDTRAIL_METRICS_HOST: z.string().min(1).default('127.0.0.1'),
    /** 0: any free port, told in the log at level debug. */
    SANDTRAIL_METRICS_PORT: integer(0, 65_535).default(port),
  }) as const

/** What `runService` needs of the keys above. */
export function serviceSettings(config: {
  SANDTRAIL_READY_FILE?: string | undefined
  SANDTRAIL_METRICS_HOST: string
  SANDTRAIL_METRICS_PORT: number
}): ServiceSettings {
  return {
    readyFile: config.SANDTRAIL_READY_FILE,
    metrics: { host: config.SANDTRAIL_METRICS_HOST, port: config.SANDTRAIL_METRICS_PORT },
  }
}
