/** Secrets as the SDKs look them up, make and change them. */

import type { ServiceImpl } from '@connectrpc/connect'
import { Rejected } from '#libs/domain'
import type { StoredSecret } from '#libs/event-store'
import type { Gateway } from '../gateway.js'
import {
  createSecret,
  overwriteSecret,
  readSecret,
  removeSecret,
  secretsOf,
  updateSecret,
} from '../secrets.js'
import { callOf } from './calls.js'
import { requireEnvironment } from './environments.js'
import { type ModalClient, ObjectCreationType, type SecretGetOrCreateRequest } from './gen/client_pb.js'
import { seconds } from './times.js'

type Secrets = Pick<
  ServiceImpl<typeof ModalClient>,
  'secretGetOrCreate' | 'secretDelete' | 'secretList' | 'secretUpdate'
>

export function secrets(gateway: Gateway): Secrets {
  async function getOrCreate(tenant: string, request: SecretGetOrCreateRequest): Promise<StoredSecret> {
    const { deploymentName: name, envDict: values, objectCreationType } = request
    const place = { tenant, environment: requireEnvironment(request.environmentName) }
    switch (objectCreationType) {
      case ObjectCreationType.UNSPECIFIED:
        return await readSecret(gateway, place, name)
      case ObjectCreationType.ANONYMOUS_OWNED_BY_APP:
      case ObjectCreationType.EPHEMERAL:
        return await createSecret(gateway, place, null, values)
      case ObjectCreationType.CREATE_FAIL_IF_EXISTS:
        return await createSecret(gateway, place, name, values)
      default:
        return await createSecret(gateway, place, name, values).catch(async (error) => {
          if ((error as Partial<Rejected>).code !== 'NAME_TAKEN') throw error
          const secret = await readSecret(gateway, place, name)
          if (objectCreationType === ObjectCreationType.CREATE_OVERWRITE_IF_EXISTS) {
            await overwriteSecret(gateway, tenant, secret.secretId, values)
            return { ...secret, keys: Object.keys(values) }
          }
          return secret
        })
    }
  }

  return {
    async secretGetOrCreate(request, context) {
      const secret = await getOrCreate(callOf(context).tenant, request)
      const lacking = request.requiredKeys.filter((key) => !secret.keys.includes(key))
      if (lacking.length > 0) {
        throw new Rejected('CONFIG_INVALID', `Secret is missing key(s): ${lacking.join(', ')}`)
      }
      return { secretId: secret.secretId, metadata: metadataOf(secret) }
    },
    async secretDelete({ secretId }, context) {
      await removeSecret(gateway, callOf(context).tenant, secretId)
      return {}
    },
    async secretList(request, context) {
      const environment = requireEnvironment(request.environmentName)
      const stored = await secretsOf(gateway, { tenant: callOf(context).tenant, environment })
      const items = stored.map((secret) => ({
        label: secret.name ?? '',
        createdAt: seconds(secret.createdAt),
        environmentName: environment,
        secretId: secret.secretId,
        metadata: metadataOf(secret),
      }))
      return { items, environmentName: environment }
    },
    async secretUpdate({ secretId, updates }, context) {
      const changes = Object.fromEntries(updates.map(({ key, value }) => [key, value ?? null]))
      await updateSecret(gateway, callOf(context).tenant, secretId, changes)
      return {}
    },
  }
}

function metadataOf({ name, keys, environment }: StoredSecret) {
  return { name: name ?? '', keys, environmentName: environment }
}
