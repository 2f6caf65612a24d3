import { SandtrailError } from '#libs/domain'
import type { RecordedEvent } from './types.js'

/** UNAVAILABLE: a process of the newer release can do it, here or after an upgrade. Nothing is skipped meanwhile. */
export function unknownEvent({ stream, version, type, typeVersion }: RecordedEvent): SandtrailError {
  return new SandtrailError(
    'UNAVAILABLE',
    `${stream} has ${type} of version ${typeVersion} (its event ${version}), which this release does not know`,
    { hint: 'a newer release wrote it: upgrade this service; it goes on from that event' },
  )
}
