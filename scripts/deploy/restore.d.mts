/** Types of restore.mjs for the tests, which are TypeScript. */
import type { Layout } from './layout.mjs'

export function restore(
  layout: Layout,
  adminUrl: string,
  from: string,
  keysFrom: string | undefined,
): Promise<void>

export function adopt(layout: Layout, adminUrl: string): Promise<void>
