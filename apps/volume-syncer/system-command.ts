/** Commands that the volume-syncer gives itself; their ids are derived from their cause, so that twice is once. */

import { systemCommandOf } from '#libs/command-handling'

export const systemCommand = systemCommandOf('system:volume-syncer')
