export * from './volume.js'
