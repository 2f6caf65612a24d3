/** Small files that must be whole after a power cut: written beside, synced, renamed, and the directory synced. */

import { open, readFile, rename } from 'node:fs/promises'
import { dirname } from 'node:path'

/** Mode 0600. */
export async function writeDurably(path: string, content: string | Buffer): Promise<void> {
  const beside = `${path}.new`
  const file = await open(beside, 'w', 0o600)
  try {
    await file.writeFile(content)
    await file.datasync()
  } finally {
    await file.close()
  }
  await rename(beside, path)
  await syncPath(dirname(path))
}

/** Appends one line and syncs it. */
export async function appendDurably(path: string, line: string): Promise<void> {
  const file = await open(path, 'a', 0o600)
  try {
    await file.writeFile(`${line}\n`)
    await file.sync()
  } finally {
    await file.close()
  }
}

/** Makes a file's content, or the names in a directory, survive a power cut. */
export async function syncPath(path: string): Promise<void> {
  const opened = await open(path, 'r')
  try {
    await opened.sync()
  } finally {
    await opened.close()
  }
}

const NAMES_BUFFER_CHARS = 65_536

/** Writes names (latin1: one character a byte), NUL after each, and syncs. Resolves with their number. */
export async function writeNames(
  path: string,
  names: AsyncIterable<{ path: string }> | Iterable<{ path: string }>,
): Promise<number> {
  const file = await open(path, 'w', 0o600)
  try {
    let count = 0
    let buffered = ''
    for await (const name of names) {
      count += 1
      buffered += `${name.path}\0`
      if (buffered.length < NAMES_BUFFER_CHARS) continue
      await file.write(Buffer.from(buffered, 'latin1'))
      buffered = ''
    }
    await file.write(Buffer.from(buffered, 'latin1'))
    await file.sync()
    return count
  } finally {
    await file.close()
  }
}

/** The file's text, or null when there is none. */
export async function readIfThere(path: string): Promise<string | null> {
  try {
    return await readFile(path, 'utf8')
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return null
    throw error
  }
}
