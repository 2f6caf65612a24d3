/** Types of installation.mjs for the tests, which are TypeScript. */
export class Installation {
  readonly dir: string
  /** Where npm has put the package. */
  readonly package: string
  readonly etc: string
  readonly adminUrl: string
  static make(): Promise<Installation>
  /** `sandtrail-admin install`, once more. */
  install(): Promise<void>
  /** A program of the package; rejects when it fails. */
  run(name: string, ...args: string[]): Promise<string>
  start(): Promise<void>
  /** Postgres stays. */
  stop(): Promise<void>
  processes(): { name: string; pid: number }[]
  remove(): Promise<void>
}
