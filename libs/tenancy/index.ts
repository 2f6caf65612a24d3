export { type Caller, type Gate, TenantGate } from './gate.js'
export { admitRequests } from './nats.js'
export { RefusalLog } from './refusal-log.js'
