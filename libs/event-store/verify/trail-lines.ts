/** Reads the trail file from its beginning, line by line, in bounded memory. */

import { createReadStream } from 'node:fs'
import { createInterface } from 'node:readline'
import { parseLine, type TrailLine } from '../ledger/trail-file.js'

/** Lines in the first `bytes` of the file: what is appended while reading is not seen. */
export async function* trailLines(path: string, bytes: number): AsyncGenerator<TrailLine> {
  if (bytes === 0) return
  const input = createReadStream(path, { end: bytes - 1 })
  for await (const text of createInterface({ input, crlfDelay: Number.POSITIVE_INFINITY })) {
    if (text !== '') yield parseLine(text)
  }
}
