/**
 * What production runs: nothing. The module that acts (`armed.ts`) takes this one's place only in a process that was
 * started with `node --conditions=failpoints`, which no unit, image or script of an installation passes; there
 * SANDTRAIL_FAILPOINT is an unknown key, which stops the start of a service.
 */

import type { Failpoint } from './names.js'

export { ACTIONS, type Action, FAILPOINTS, type Failpoint } from './names.js'

/** A named place at which a test may break this process. */
export function failpoint(_name: Failpoint): void {}
