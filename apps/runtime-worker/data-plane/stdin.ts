/** PUT …/stdin: bytes for a process, at offsets, at the pace at which it reads. */

import type { IncomingMessage } from 'node:http'
import type { ExecKey } from '../sandboxes/journal.js'
import type { Sandbox } from '../sandboxes/sandbox.js'

/**
 * Resolves when the process's side has taken all of the body. Bytes that it has already are skipped, so a writer that
 * was cut off begins again where it likes. @throws Rejected EXEC_NOT_FOUND, EXEC_ENDED
 */
export async function takeStdin(
  request: IncomingMessage,
  sandbox: Sandbox,
  { execId, offset, eof }: { execId: ExecKey; offset: number; eof: boolean },
): Promise<{ acceptedTo: number }> {
  const release = sandbox.lifetime?.hold()
  const gone = new AbortController()
  // `close` also comes when all of the body was read: that is no reason to stop.
  request.on('close', () => {
    if (!request.complete) gone.abort()
  })
  try {
    const { agent } = await sandbox.execs.started(execId)
    let at = offset
    let taken: { acceptedTo: number } | null = null
    for await (const piece of request as AsyncIterable<Buffer>) {
      taken = await agent.writeStdin(execId, at, piece, { signal: gone.signal })
      at += piece.length
    }
    // A program may end once it has read all: that is no fault of the writer.
    if (taken !== null && !eof) return taken
    return await agent.writeStdin(execId, at, Buffer.alloc(0), { eof })
  } finally {
    release?.()
  }
}
