/** Every type of event that this release knows, of aggregates and others. */

import type { KnownEvents } from './aggregate.js'
import { appAggregate } from './app/index.js'
import { execAggregate } from './exec/index.js'
import { imageAggregate } from './image/index.js'
import { sandboxAggregate } from './sandbox/index.js'
import { snapshotAggregate } from './snapshot/index.js'
import { tenantAggregate, tokenAggregate } from './tenant/index.js'
import { volumeAggregate } from './volume/index.js'
import { workerAggregate } from './worker/index.js'

export const KNOWN_EVENTS: KnownEvents = {
  ...sandboxAggregate.knows,
  ...execAggregate.knows,
  ...imageAggregate.knows,
  ...snapshotAggregate.knows,
  ...volumeAggregate.knows,
  ...workerAggregate.knows,
  ...tenantAggregate.knows,
  ...tokenAggregate.knows,
  ...appAggregate.knows,
  CommandRejected: 1,
  LogRestored: 1,
}
