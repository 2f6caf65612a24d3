/** The host's end of the guest agent's protocol (docs/agent-protocol.md). */

export type { AgentExit, AgentMount, ExecFailure } from './messages.js'
export { EXEC_ID_MAX, PROTOCOL } from './messages.js'
export { OUTPUT_WINDOW } from './output.js'
export { AgentSession } from './session.js'
export { STDIN_WINDOW } from './stdin.js'
export type {
  AgentInfo,
  AgentLog,
  AgentSessionOptions,
  Disconnection,
  ExecOutcome,
  ExecRequest,
  KnownExec,
  OutputSink,
  OutputStreamName,
} from './types.js'
