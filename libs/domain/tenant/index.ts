export * from './limits.js'
export * from './rate.js'
export * from './scope.js'
