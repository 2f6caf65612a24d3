/** What an accepted command answers, at once and again for each re-send. */

export interface Accepted {
  ok: true
  commandId: string
  /** The stream that the command wrote to first, and its version after that. */
  stream: string
  version: number
  sandboxId?: string
  execId?: string
  imageId?: string
  snapshotId?: string
  volumeId?: string
  commitId?: string
  workerId?: string
  appId?: string
}

/** By when a command may be accepted at the latest, from now. */
export const COMMAND_EXPIRY_MS_MAX = 24 * 3_600_000
/** What CLI and HTTP set. */
export const COMMAND_EXPIRY_MS_DEFAULT = 600_000
/** How long HTTP waits for a decision: one transaction, tried at most three times; longer means that something is wrong. */
export const COMMAND_REPLY_MS_MAX = 20_000
/**
 * Made by the caller; ULID, UUID or any other text that is unique in the tenant. It becomes tokens of a subject, so no
 * dot stands first, last or beside another.
 */
export const COMMAND_ID = /^(?=.{8,128}$)[A-Za-z0-9][A-Za-z0-9_:-]*(\.[A-Za-z0-9_:-]+)*$/
