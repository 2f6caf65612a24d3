export { append, findCommand, type OnCommitted } from './append.js'
export {
  assertDurable,
  type Database,
  openDatabase,
  type PoolOptions,
  type Queryable,
  type Transaction,
  transaction,
} from './database.js'
export { commandHash, derivedCommandId, type Envelope, hashEvent } from './envelope.js'
export {
  type Checkpoint,
  type CheckpointSigner,
  createSignerKey,
  loadSigner,
  openCheckpoint,
} from './ledger/checkpoint-note.js'
export { latestCheckpoint } from './ledger/checkpoints.js'
export { type LedgerLag, readFollowerLags, readLedgerLag } from './ledger/lag.js'
export { type Publish, republishFrom } from './ledger/publisher.js'
export { Sequencer, type SequencerOptions } from './ledger/sequencer.js'
export { compareTrails, copyTrail, type TrailComparison } from './ledger/trail-copy.js'
export {
  type Foldable,
  type Loaded,
  load,
  type StoredEvent,
  type Upcast,
  type Upcasts,
  upcast,
} from './load.js'
export { type Projection, Projector, rebuildProjection, rebuildWithin } from './projection.js'
export { type AppRow, appsProjection, type ListApps, listApps } from './projections/apps.js'
export {
  type ListSandboxes,
  listSandboxes,
  type SandboxRow,
  sandboxesProjection,
} from './projections/sandboxes.js'
export {
  lastPosition,
  type Page,
  type PageOptions,
  readAdministration,
  readPage,
  readStream,
} from './read.js'
export { type Rejection, rejectCommand, rejectionStream } from './reject.js'
export { Sealer } from './sealer.js'
export { findClaim } from './statements/claims.js'
export { countPurgeable, findStoredCommand, purgeCommands } from './statements/commands.js'
export { liveSandboxesWith } from './statements/mounts.js'
export { setTimers } from './statements/timers.js'
export { type FollowerLog, Subscription, type SubscriptionOptions } from './subscription.js'
export {
  countLive,
  type LiveSandbox,
  listAllLive,
  listLive,
  listLiveOf,
  listLiveOfApp,
  listStranded,
} from './tables/live.js'
export {
  insertRefusals,
  listRefusals,
  purgeRefusals,
  type Refusal,
  type RefusalSummary,
} from './tables/refusals.js'
export {
  deleteSecret,
  findSecret,
  findSecretByName,
  insertSecret,
  listSecrets,
  type NewSecret,
  purgeSecrets,
  replaceSecret,
  type StoredSecret,
} from './tables/secrets.js'
export {
  countThings,
  ensureTenant,
  findTenant,
  findTenantRates,
  listSuspended,
  listTenants,
  revokeTokensOf,
  setTenantLimits,
  standingClaim,
  type Tenant,
  type TenantStanding,
} from './tables/tenants.js'
export {
  createToken,
  findRevokedToken,
  findToken,
  findTokenById,
  listTokens,
  newToken,
  revokeToken,
  type Token,
  type TokenSecret,
} from './tables/tokens.js'
export { hasUploaded, noteUpload } from './tables/uploads.js'
export {
  cordonClaim,
  findWorker,
  listWorkers,
  loseWorker,
  upsertWorker,
  type Worker,
  type WorkerReport,
  type WorkerState,
} from './tables/workers.js'
export { type FiredTimer, type TimerHandler, TimerLoop } from './timer-loop.js'
export * from './types.js'
export {
  type Problem,
  type ProblemKind,
  type VerifyOptions,
  type VerifyReport,
  verifyTrail,
} from './verify/index.js'
