export * from './envelope.js'
export * from './handle.js'
