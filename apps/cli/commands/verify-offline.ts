/** The check itself, loaded only here: it brings the database driver with it. */

import { readFile } from 'node:fs/promises'
import { type VerifyReport, verifyTrail } from '../../../libs/event-store/verify/index.js'

export async function verifyOffline(given: {
  databaseUrl: string
  trailFile: string
  publicKey: string
  stream: string | undefined
}): Promise<VerifyReport> {
  const { databaseUrl, trailFile, stream } = given
  const publicKey = (await readFile(given.publicKey, 'utf8')).trim()
  return await verifyTrail({ databaseUrl, trailFile, publicKey, ...(stream === undefined ? {} : { stream }) })
}
