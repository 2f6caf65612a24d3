export * from './image.js'
