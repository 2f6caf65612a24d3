/** Types of services.mjs for the tests, which are TypeScript. */
export interface Service {
  name: string
  app: string
  env: Record<string, string>
}

/** What starts an app: `node` and these arguments, in the root of the clone. */
export function commandOf(app: string): string[]

export function servicesOf(system: {
  dir: string
  natsUrl: string
  databaseUrl: string
  httpPort: number
  modalPort: number
  keys: { path(name: string): string; workers: { id: string; nkeyPublic: string; credentialsFile: string }[]; certificates: import('./certificates.d.mts').Certificates | null }
  pools: string[]
  schedulers: number
  environment?: Record<string, string>
}): Service[][]
