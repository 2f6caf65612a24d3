export * from './envelope.js'
export * from './handle.js'
export * from './queued.js'
export * from './record.js'
