/** Types of layout.mjs for the tests, which are TypeScript. */
export interface Layout {
  etc: string
  state: string
  trailFile: string
  natsStore: string
  envFile(service: string): string
  key(name: string): string
}

export function layoutOf(options: { etc?: string; state?: string }): Layout
