/** One log line per command, as JSON on stderr; a fixed message, the variables as fields, no secret and no payload. */

import pino from 'pino'
import { correlationFields } from './correlation.js'

export type Log = pino.Logger

export function createLog(service: string, level: string): Log {
  return pino(
    {
      level,
      base: { service },
      mixin: correlationFields,
      timestamp: pino.stdTimeFunctions.isoTime,
      // A second fence behind the rule that such values are never given to a log call.
      redact: {
        paths: ['env', 'secrets', 'password', 'token', '*.env', '*.secrets', '*.password', '*.token'],
        censor: '[redacted]',
      },
    },
    pino.destination(2),
  )
}
