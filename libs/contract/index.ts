export * from './commands.js'
export * from './data-plane.js'
export * from './outcomes.js'
export * from './worker.js'
