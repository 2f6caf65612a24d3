export { type Backlog, readBacklog } from './backlog.js'
export * from './connection.js'
export type { MessageContext } from './context.js'
export {
  DEAD_AT_HEADER,
  DEAD_DELIVERIES_HEADER,
  DEAD_REASON_HEADER,
  DEAD_SUBJECT_HEADER,
  type DeadLetter,
  type DeadLetterBody,
  listDeadLetters,
  readDeadLetter,
  redriveDeadLetter,
  removeDeadLetter,
} from './dead-letters.js'
export { ErrorsPassThrough } from './error-filter.js'
export {
  HASH_HEADER,
  POSITION_HEADER,
  type PublishableEvent,
  publishEvents,
  VERSION_HEADER,
} from './events.js'
export * from './headers.js'
export * from './identity.js'
export { JetStreamServer, type JetStreamServerOptions } from './jetstream-server.js'
export { BODY_BYTES_MAX, decodeBody, type Json, type JsonObject } from './json.js'
export type { MessagingLog } from './log.js'
export { type Listener, Messaging, type Queued, type RequestOptions } from './messaging.js'
export { type NatsConfig, type NatsLimits, type NatsUser, renderNatsConfig } from './nats-config.js'
export type { CommandPattern, EventPattern, Handler, Pattern, RequestPattern } from './patterns.js'
export { COMMANDS, DEAD_LETTERS, EVENTS, ensureStreams } from './streams.js'
export * from './subjects.js'
export { watchStreams } from './watch-streams.js'
