/** Archives in the gateway's blob store, as the snapshotter sees them: by signed URLs. */

import type { IncomingMessage } from 'node:http'
import { Rejected, SandtrailError } from '#libs/domain'
import { httpGet } from '#libs/service'
import { signBlobUrl } from '#libs/storage'

/** For the download of a large archive; a later try gets a new one. */
const URL_MS = 900_000
const HEAD_MS_MAX = 10_000

export class Blobs {
  constructor(
    private readonly baseUrl: string,
    private readonly key: Buffer,
    /** PEM of the authority that counts for the gateway's certificate; undefined: the system's. */
    private readonly ca?: string,
  ) {}

  /** A URL that anybody may read this blob with, for a while: not to be logged. */
  url(sha256: string): string {
    return signBlobUrl(this.baseUrl, sha256, new Date(Date.now() + URL_MS), this.key)
  }

  /** @throws Rejected NOT_FOUND; SandtrailError UNAVAILABLE, TLS_FAILED */
  async bytes(sha256: string): Promise<number> {
    let response: IncomingMessage
    try {
      response = await httpGet(this.url(sha256), { method: 'HEAD', ca: this.ca, timeoutMs: HEAD_MS_MAX })
      response.resume()
    } catch (cause) {
      if (cause instanceof SandtrailError) throw cause
      throw new SandtrailError('UNAVAILABLE', 'the blob store cannot be reached', { cause })
    }
    const { statusCode = 0, headers } = response
    if (statusCode === 404) {
      throw noBlob()
    }
    const length = headers['content-length']
    if (statusCode === 200 && length !== undefined) return Number(length)
    throw new SandtrailError('UNAVAILABLE', `the blob store answered with status ${statusCode}`)
  }
}

export function noBlob(): Rejected {
  return new Rejected('NOT_FOUND', 'no blob has this digest', { hint: 'upload the archive first' })
}
