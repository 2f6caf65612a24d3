export type { Problem, ProblemKind, VerifyReport } from './report.js'
export { type VerifyOptions, verifyTrail } from './verify.js'
