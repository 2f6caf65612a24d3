export { type AskOptions, askWorker } from './ask.js'
export { Jobs, type JobsOptions } from './jobs.js'
