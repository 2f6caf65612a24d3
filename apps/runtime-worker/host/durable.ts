/** A file that is whole or not there, also after a power cut. */

import { open, rename } from 'node:fs/promises'
import { dirname } from 'node:path'

/** Writes `text` (mode 0600) beside `path`, syncs it, puts it in place, and syncs the directory. */
export async function writeDurably(path: string, text: string): Promise<void> {
  const temporary = `${path}.new`
  const file = await open(temporary, 'w', 0o600)
  try {
    await file.writeFile(text)
    await file.datasync()
  } finally {
    await file.close()
  }
  await rename(temporary, path)
  const directory = await open(dirname(path), 'r')
  try {
    await directory.sync()
  } finally {
    await directory.close()
  }
}
