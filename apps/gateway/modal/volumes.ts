/** Volumes by name, as far as the volume-syncer goes. */

import type { ServiceImpl } from '@connectrpc/connect'
import { Rejected } from '#libs/domain'
import { sendCommand } from '../commands.js'
import type { Gateway } from '../gateway.js'
import { readVolume, type VolumeView } from '../volumes.js'
import { callOf, originOf } from './calls.js'
import { requireEnvironment } from './environments.js'
import { unimplemented } from './errors.js'
import { type ModalClient, ObjectCreationType } from './gen/client_pb.js'

/** What the SDKs call the newer kind of volumes; there is one kind here. */
const VERSION = 2

type Volumes = Pick<ServiceImpl<typeof ModalClient>, 'volumeGetOrCreate' | 'proxyGet'>

export function volumes(gateway: Gateway): Volumes {
  const { db, messaging } = gateway
  return {
    async volumeGetOrCreate(request, context) {
      const call = callOf(context)
      const { deploymentName: name, objectCreationType: how, version } = request
      requireEnvironment(request.environmentName)
      if (how === ObjectCreationType.EPHEMERAL || how === ObjectCreationType.ANONYMOUS_OWNED_BY_APP) {
        throw unimplemented('a volume without a name', 'give it one, and remove it afterwards')
      }
      const known = await readVolume(db, call.tenant, name).catch(notFound)
      if (known !== null && how === ObjectCreationType.CREATE_FAIL_IF_EXISTS) {
        throw new Rejected('NAME_TAKEN', `Volume '${name}' already exists`)
      }
      if (known === null && how === ObjectCreationType.UNSPECIFIED) {
        throw new Rejected('NOT_FOUND', `Volume '${name.slice(0, 64)}' not found`)
      }
      if (known === null) {
        await sendCommand(messaging, originOf(call, 'volume'), 'volume.create', { name }).catch((error) => {
          // Another call was first.
          if ((error as Partial<Rejected>).code !== 'NAME_TAKEN') throw error
        })
      }
      const { volumeId } = known ?? (await readVolume(db, call.tenant, name))
      const shown = version === 0 ? VERSION : version
      return { volumeId, version: shown, metadata: { version: shown, name } }
    },
    proxyGet({ name }) {
      throw new Rejected('NOT_FOUND', `Proxy '${name.slice(0, 64)}' not found: there are none here`)
    },
  }
}

function notFound(error: unknown): VolumeView | null {
  if (error instanceof Rejected && error.code === 'VOLUME_NOT_FOUND') return null
  throw error
}
