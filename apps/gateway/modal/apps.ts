/** Apps: what groups sandboxes, and within which their names are unique. */

import { createHash } from 'node:crypto'
import type { ServiceImpl } from '@connectrpc/connect'
import { isId, makeId, Rejected } from '#libs/domain'
import type { Gateway } from '../gateway.js'
import { callOf } from './calls.js'
import { requireEnvironment } from './environments.js'
import type { ModalClient } from './gen/client_pb.js'

const NAME = /^[A-Za-z0-9._-]{1,64}$/

/** @throws Rejected NOT_FOUND */
export function requireApp(appId: string): void {
  if (!isId('ap', appId))
    throw new Rejected('NOT_FOUND', `no app has the id ${JSON.stringify(appId.slice(0, 80))}`)
}

export function apps(_: Gateway): Pick<ServiceImpl<typeof ModalClient>, 'appGetOrCreate'> {
  return {
    appGetOrCreate({ appName, environmentName }, context) {
      if (!NAME.test(appName)) {
        throw new Rejected('INVALID_ARGUMENT', 'a name has 1 to 64 letters, digits, ".", "_" or "-"')
      }
      return { appId: appIdOf(callOf(context).tenant, requireEnvironment(environmentName), appName) }
    },
  }
}

/** An app needs nothing but its name: the id is made from it. */
export function appIdOf(tenant: string, environment: string, name: string): string {
  const digest = createHash('sha256').update([tenant, environment, name].join('\0')).digest()
  return makeId('ap', digest.readUIntBE(0, 6), digest.subarray(6, 16))
}
