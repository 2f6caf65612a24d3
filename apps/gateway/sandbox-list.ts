/** The list of sandboxes. */

import { type ListSandboxes, listSandboxes, type SandboxRow } from '#libs/event-store'
import { catchUp } from './catch-up.js'
import type { Gateway } from './gateway.js'

export async function readSandboxList(
  { db }: Gateway,
  wanted: ListSandboxes,
): Promise<{ sandboxes: SandboxRow[]; nextCursor: string | null }> {
  // A later page shows what its first one did not, whether new or not.
  if (wanted.cursor === undefined) await catchUp(db, ['sandboxes'])
  return await listSandboxes(db, wanted)
}
