/** The agent's session of one sandbox, on the socket in its own directory. */

import { open } from 'node:fs/promises'
import { AgentSession } from '#libs/agent-client'
import type { Log } from '#libs/service'
import type { RuntimeRequest } from '../runtime.js'
import { GUEST } from './bundle.js'
import type { SandboxFiles } from './files.js'

export interface GuestSession {
  agent: AgentSession
  /** Resolves with the first connection. */
  connected: Promise<void>
  /** Leaves the agent alone; it waits for the next session on the same path. */
  close(): Promise<void>
}

/** @param onLost called when the stream to the agent is lost: most often because the sandbox has died */
export async function openSession(
  request: RuntimeRequest,
  files: SandboxFiles,
  token: string,
  log: Log,
  onLost: () => void,
): Promise<GuestSession> {
  // A socket's path has 107 bytes at most and a state directory's is the operator's choice: the way goes through the
  // open directory, whose path is short.
  const directory = await open(files.sockets, 'r')
  const connected = Promise.withResolvers<void>()
  const agent = new AgentSession({
    socketPath: `/proc/self/fd/${directory.fd}/${GUEST.socketName}`,
    token,
    sink: request.sink,
    onExit: request.onExecExit,
    onConnected: () => connected.resolve(),
    onDisconnected: onLost,
    log: log.child({ sandboxId: request.sandboxId }),
  })
  const close = async () => {
    await agent.stop()
    await directory.close()
  }
  try {
    await agent.start()
  } catch (error) {
    await close()
    throw error
  }
  return { agent, connected: connected.promise, close }
}
