/** Who the caller is, and its environment: each tenant has one, which any SDK finds under no name or `main`. */

import type { ServiceImpl } from '@connectrpc/connect'
import { Rejected } from '#libs/domain'
import type { Gateway } from '../gateway.js'
import { callOf } from './calls.js'
import type { ModalClient } from './gen/client_pb.js'
import { signClientToken } from './tokens.js'

export const ENVIRONMENT = 'main'
/** The newest that every SDK takes. */
const BUILDER_VERSION = '2025.06'

type Environments = Pick<
  ServiceImpl<typeof ModalClient>,
  | 'authTokenGet'
  | 'clientHello'
  | 'workspaceNameLookup'
  | 'tokenInfoGet'
  | 'environmentGetOrCreate'
  | 'environmentList'
>

/** @throws Rejected NOT_FOUND */
export function requireEnvironment(name: string): string {
  if (name === '' || name === ENVIRONMENT) return ENVIRONMENT
  throw new Rejected('NOT_FOUND', `Environment '${name.slice(0, 64)}' not found`, {
    hint: `there is one: ${ENVIRONMENT}`,
  })
}

export function environments(gateway: Gateway): Environments {
  return {
    async authTokenGet(_, context) {
      return { token: await signClientToken(gateway.dataPlaneKey, callOf(context).tenant) }
    },
    clientHello: () => ({ imageBuilderVersion: BUILDER_VERSION }),
    workspaceNameLookup(_, context) {
      const { tenant, tokenId } = callOf(context)
      return { workspaceName: tenant, username: tokenId }
    },
    tokenInfoGet(_, context) {
      const { tenant, tokenId } = callOf(context)
      return { tokenId, workspaceId: tenant, workspaceName: tenant }
    },
    environmentGetOrCreate(request) {
      const name = requireEnvironment(request.deploymentName)
      const settings = { imageBuilderVersion: BUILDER_VERSION, webhookSuffix: '' }
      return { environmentId: `en-${name}`, metadata: { name, settings } }
    },
    environmentList: () => ({
      items: [{ name: ENVIRONMENT, default: true, environmentId: `en-${ENVIRONMENT}` }],
    }),
  }
}
