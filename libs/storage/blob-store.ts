/**
 * Blobs by the sha256 of their content, in a directory: `<dir>/<2 hex>/<sha256>`. A blob is whole or not there. The
 * interface is what another store (S3) would implement.
 */

import { createHash, randomBytes } from 'node:crypto'
import { createReadStream } from 'node:fs'
import { mkdir, open, readdir, rename, rm, stat, utimes } from 'node:fs/promises'
import { join } from 'node:path'
import type { Readable } from 'node:stream'
import { SandtrailError } from '#libs/domain'
import { syncPath } from './durable.js'

export interface Blob {
  sha256: string
  bytes: number
}

export interface StoredBlob {
  path: string
  /** null: half-written. */
  sha256: string | null
  bytes: number
  /** Of its last write or `touch`. */
  touchedAtMs: number
}

export interface BlobStore {
  /** @throws SandtrailError PAYLOAD_TOO_LARGE beyond `bytesMax`, NO_SPACE; nothing is kept then. */
  put(content: AsyncIterable<Uint8Array>, options: { bytesMax: number }): Promise<Blob>
  /** @throws SandtrailError NOT_FOUND */
  open(sha256: string): Promise<{ bytes: number; stream: Readable }>
  has(sha256: string): Promise<boolean>
}

const SHA256 = /^[0-9a-f]{64}$/

export class FileBlobStore implements BlobStore {
  private constructor(readonly dir: string) {}

  /** Makes the directory. Another gateway may be writing there: what a crash left half-written goes by its age, see `list`. */
  static async open(dir: string): Promise<FileBlobStore> {
    await mkdir(join(dir, 'incoming'), { recursive: true, mode: 0o700 })
    return new FileBlobStore(dir)
  }

  async put(content: AsyncIterable<Uint8Array>, { bytesMax }: { bytesMax: number }): Promise<Blob> {
    const beside = join(this.dir, 'incoming', randomBytes(12).toString('hex'))
    const file = await open(beside, 'wx', 0o600)
    try {
      const hash = createHash('sha256')
      let bytes = 0
      for await (const chunk of content) {
        bytes += chunk.length
        if (bytes > bytesMax)
          throw new SandtrailError('PAYLOAD_TOO_LARGE', `a blob may have ${bytesMax} bytes`)
        hash.update(chunk)
        await file.writeFile(chunk)
      }
      await file.sync()
      const sha256 = hash.digest('hex')
      await mkdir(join(this.dir, sha256.slice(0, 2)), { recursive: true, mode: 0o700 })
      await rename(beside, this.#path(sha256))
      await syncPath(join(this.dir, sha256.slice(0, 2)))
      await syncPath(this.dir)
      return { sha256, bytes }
    } catch (error) {
      await rm(beside, { force: true })
      if ((error as NodeJS.ErrnoException).code !== 'ENOSPC') throw error
      throw new SandtrailError('NO_SPACE', 'the blob store is full', { cause: error })
    } finally {
      await file.close()
    }
  }

  async open(sha256: string): Promise<{ bytes: number; stream: Readable }> {
    const bytes = await this.#bytes(sha256)
    if (bytes === null) throw new SandtrailError('NOT_FOUND', 'no blob has this digest')
    return { bytes, stream: createReadStream(this.#path(sha256)) }
  }

  async has(sha256: string): Promise<boolean> {
    return (await this.#bytes(sha256)) !== null
  }

  /** It is wanted again: its age counts from now. */
  async touch(sha256: string): Promise<void> {
    const now = new Date()
    if (SHA256.test(sha256)) await utimes(this.#path(sha256), now, now).catch(() => {})
  }

  /** All of them, and what is half-written. */
  async *list(): AsyncGenerator<StoredBlob> {
    for (const entry of await readdir(this.dir, { recursive: true, withFileTypes: true })) {
      if (!entry.isFile()) continue
      const path = join(entry.parentPath, entry.name)
      const found = await stat(path).catch(() => null)
      if (found === null) continue
      const sha256 = SHA256.test(entry.name) ? entry.name : null
      yield { path, sha256, bytes: found.size, touchedAtMs: found.mtimeMs }
    }
  }

  async remove({ path }: StoredBlob): Promise<void> {
    await rm(path, { force: true })
  }

  async #bytes(sha256: string): Promise<number | null> {
    if (!SHA256.test(sha256)) return null
    const found = await stat(this.#path(sha256)).catch(() => null)
    return found?.isFile() ? found.size : null
  }

  #path(sha256: string): string {
    return join(this.dir, sha256.slice(0, 2), sha256)
  }
}
