/** Types of certificates.mjs for the tests, which are TypeScript. */
export interface Pair {
  cert: string
  key: string
}

/** Paths. */
export interface Certificates {
  ca: string
  gateway: Pair
  nats: Pair
  postgres: Pair
}

/** Makes what is missing, ends soon or lacks a name; `path`: in the keys directory. */
export function ensureCertificates(path: (name: string) => string, names?: string[]): Promise<Certificates>
