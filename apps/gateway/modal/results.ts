/** How a sandbox has ended, as the SDKs read it: they show 124 for TIMEOUT, 137 for TERMINATED, else the exit code. */

import { create } from '@bufbuild/protobuf'
import { IDLE_REASON } from '../views/sandbox.js'
import {
  type GenericResult,
  GenericResultSchema,
  GenericResult_GenericStatus as GenericStatus,
} from './gen/client_pb.js'

/** Shown for a sandbox that has no exit code of its own: as if by SIGKILL. */
const KILLED = 137

/** What is asked of a sandbox's view, or of a row of the list. */
interface End {
  startedAt: Date | string | null
  endedAt: Date | string | null
  terminalEvent: string | null
  exitCode: number | null
  reason: string | null
  errorCode: string | null
}

/** undefined while it lives: the mere presence of a result ends an SDK's wait. */
export function resultOf(sandbox: End): GenericResult | undefined {
  if (sandbox.endedAt === null) return undefined
  const exception = sandbox.reason ?? ''
  const exitcode = sandbox.exitCode ?? KILLED
  return create(GenericResultSchema, { status: statusOf(sandbox), exception, exitcode })
}

function statusOf(sandbox: End): GenericStatus {
  switch (sandbox.terminalEvent) {
    case 'SandboxFinished':
      return sandbox.exitCode === 0 ? GenericStatus.SUCCESS : GenericStatus.FAILURE
    case 'SandboxTerminated':
      return GenericStatus.TERMINATED
    case 'SandboxTimedOut':
      return sandbox.reason === IDLE_REASON ? GenericStatus.IDLE_TIMEOUT : GenericStatus.TIMEOUT
    case 'SandboxFailed':
      if (sandbox.errorCode === 'OUT_OF_MEMORY') return GenericStatus.KERNEL_OOM_KILL
      return sandbox.startedAt === null ? GenericStatus.INIT_FAILURE : GenericStatus.INTERNAL_FAILURE
    default:
      return GenericStatus.INTERNAL_FAILURE
  }
}
