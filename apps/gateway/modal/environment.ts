/** Variables that a sandbox or an exec is given: sources in the caller's order, the later wins. */

import { Rejected } from '#libs/domain'
import type { Gateway } from '../gateway.js'
import { openSecret } from '../secrets.js'
import type { SecretSource } from './gen/client_pb.js'

export async function environmentOf(
  gateway: Gateway,
  tenant: string,
  { sources, secretIds, env }: { sources: SecretSource[]; secretIds: string[]; env: Record<string, string> },
): Promise<Record<string, string>> {
  // Named secrets stand in both lists; the sources are the newer form, and complete.
  const given = sources.length > 0 ? sources.map(({ source }) => source) : secretIds.map(bySecretId)
  const values: Record<string, string> = {}
  for (const source of given) {
    if (source.case === 'env') Object.assign(values, source.value.contents)
    else if (source.case === 'secretId')
      Object.assign(values, await openSecret(gateway, tenant, source.value))
    else throw new Rejected('INVALID_ARGUMENT', 'a source of secrets is neither a secret nor an environment')
  }
  return { ...values, ...env }
}

const bySecretId = (value: string) => ({ case: 'secretId', value }) as const
