/** Configuration from the environment: one schema per service, read once in `main`, all faults told at once. */

import { createPrivateKey, type KeyObject } from 'node:crypto'
import { readFileSync, statSync } from 'node:fs'
import { z } from 'zod'
import { SandtrailError } from '#libs/domain'
import { readAuthorities } from '#libs/tls'
import { encryptionFaults, PLAINTEXT_NAMES, type PlaintextName, withAuthority } from './encryption.js'
import type { ServiceSettings } from './lifecycle.js'

/**
 * Reads the keys of `shape` from `env`. An unknown `SANDTRAIL_*` key is a fault too: a misspelt one must not be
 * silently ignored.
 *
 * @throws SandtrailError CONFIG_INVALID that lists every fault in one line, without any value.
 */
export function readConfig<S extends z.ZodRawShape>(
  shape: S,
  env: NodeJS.ProcessEnv = process.env,
): z.output<z.ZodObject<S>> {
  const given: Record<string, string> = Object.fromEntries(
    Object.entries(env).filter((entry): entry is [string, string] => {
      const [key, value] = entry
      return key.startsWith('SANDTRAIL_') && value !== undefined && value !== ''
    }),
  )
  const { SANDTRAIL_DATABASE_URL: database, SANDTRAIL_CA_FILE: caFile } = given
  if (database !== undefined) given.SANDTRAIL_DATABASE_URL = withAuthority(database, caFile)
  const result = z.strictObject(shape).safeParse(given)
  const faults = [
    ...(result.error?.issues ?? []).map((issue) => tell(issue, given)),
    ...encryptionFaults(given),
  ]
  if (result.success && faults.length === 0) return result.data as z.output<z.ZodObject<S>>
  throw new SandtrailError('CONFIG_INVALID', faults.join('; '), {
    hint: 'docs/services-env.md says what each key means',
  })
}

function tell(issue: z.core.$ZodIssue, given: Record<string, string>): string {
  if (issue.code === 'unrecognized_keys') return `${issue.keys.join(', ')}: unknown key`
  const key = issue.path.join('.')
  return `${key}: ${key in given ? issue.message : 'is not set'}`
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

/** An Ed25519 private key, PKCS#8 PEM, in a file that nobody else can read. */
export const signingKeyFile = privateFile.transform((pem, context): KeyObject => {
  try {
    const key = createPrivateKey(pem)
    if (key.asymmetricKeyType === 'ed25519') return key
  } catch {
    // Told below: what OpenSSL says may quote the file.
  }
  context.addIssue({ code: 'custom', message: 'must hold an Ed25519 private key as PKCS#8 PEM' })
  return z.NEVER
})

/** A file of NATS credentials: `{"user","password"}` or `{"nkeySeed"}`. */
export const natsCredentialsFile = privateFile.transform((content, context) => {
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

/** PEM of authorities whose word counts for the certificates of others. */
const authoritiesFile = z.string().transform((path, context): string => {
  try {
    return readAuthorities(path)
  } catch (error) {
    context.addIssue({ code: 'custom', message: (error as Error).message })
    return z.NEVER
  }
})

/** Several names, separated by commas. */
const plaintextNames = z
  .string()
  .transform((text) => text.split(','))
  .refine(
    (names): names is PlaintextName[] =>
      names.every((name) => PLAINTEXT_NAMES.includes(name as PlaintextName)),
    {
      error: `must be some of ${PLAINTEXT_NAMES.join(', ')}, separated by commas`,
    },
  )

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
  SANDTRAIL_NATS_URL: z.string().regex(/^(nats|tls):\/\//, 'must begin with nats:// or tls://'),
  SANDTRAIL_NATS_CREDENTIALS_FILE: natsCredentialsFile,
  /** Who must have signed the certificates of broker, gateway and database. Without it, an authority of the system's. */
  SANDTRAIL_CA_FILE: authoritiesFile.optional(),
  /** What may go over the network without TLS: encryption.ts refuses the rest. */
  SANDTRAIL_PLAINTEXT_ALLOWED: plaintextNames.optional(),
  /** Written when the service is ready, removed at its end; supervisors and tests wait for it. */
  SANDTRAIL_READY_FILE: z.string().optional(),
  SANDTRAIL_LOG_LEVEL: z.enum(['debug', 'info', 'warn', 'error']).default('info'),
} as const

/** How to reach Postgres; how it is encrypted is part of it. */
export const databaseUrl = z.string().regex(/^postgres(ql)?:\/\//, 'must be a postgres:// URL')

/** What a connection to the broker needs of the keys above. */
export function brokerSettings(config: {
  SANDTRAIL_NATS_URL: string
  SANDTRAIL_NATS_CREDENTIALS_FILE: z.output<typeof natsCredentialsFile>
  SANDTRAIL_CA_FILE?: string | undefined
}) {
  const ca = config.SANDTRAIL_CA_FILE
  return {
    servers: config.SANDTRAIL_NATS_URL,
    credentials: config.SANDTRAIL_NATS_CREDENTIALS_FILE,
    tls: ca === undefined ? {} : { ca },
  }
}

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
