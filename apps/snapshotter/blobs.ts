/** Archives in the gateway's blob store, as the snapshotter sees them: by signed URLs. */

import { Rejected, SandtrailError } from '#libs/domain'
import { signBlobUrl } from '#libs/storage'

/** For the download of a large archive; a later try gets a new one. */
const URL_MS = 900_000
const HEAD_MS_MAX = 10_000

export class Blobs {
  constructor(
    private readonly baseUrl: string,
    private readonly key: Buffer,
  ) {}

  /** A URL that anybody may read this blob with, for a while: not to be logged. */
  url(sha256: string): string {
    return signBlobUrl(this.baseUrl, sha256, new Date(Date.now() + URL_MS), this.key)
  }

  /** @throws Rejected NOT_FOUND; SandtrailError UNAVAILABLE */
  async bytes(sha256: string): Promise<number> {
    let response: Response
    try {
      response = await fetch(this.url(sha256), { method: 'HEAD', signal: AbortSignal.timeout(HEAD_MS_MAX) })
    } catch (cause) {
      throw new SandtrailError('UNAVAILABLE', 'the blob store cannot be reached', { cause })
    }
    if (response.status === 404) {
      throw noBlob()
    }
    const length = response.headers.get('content-length')
    if (response.ok && length !== null) return Number(length)
    throw new SandtrailError('UNAVAILABLE', `the blob store answered with status ${response.status}`)
  }
}

export function noBlob(): Rejected {
  return new Rejected('NOT_FOUND', 'no blob has this digest', { hint: 'upload the archive first' })
}
