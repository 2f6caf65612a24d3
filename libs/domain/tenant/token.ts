/**
 * Who made a token and who revoked it: a stream of the platform per token, `token:<tenant>:<id>`, so that a tenant that
 * makes many makes its own stream no longer. Neither a secret nor its hash is in it.
 *
 *   absent -> active -> revoked
 *         \____________/           (of a token that set-up made, or a release that did not record it)
 */

import { type Aggregate, type Decided, knownFrom, type PastEvent, type Transition } from '../aggregate.js'

export type TokenEvent =
  | Decided<'TokenCreated', { tenant: string; tokenId: string; name: string; operator: boolean }>
  | Decided<'TokenRevoked', { tenant: string; tokenId: string }>

export type TokenStatus = 'absent' | 'active' | 'revoked'

export const TOKEN_TRANSITIONS: readonly Transition<TokenStatus>[] = [
  { from: 'absent', event: 'TokenCreated', to: 'active' },
  { from: 'absent', event: 'TokenRevoked', to: 'revoked' },
  { from: 'active', event: 'TokenRevoked', to: 'revoked' },
]

export type TokenCommand =
  | { type: 'CreateToken'; tenant: string; tokenId: string; name: string; operator: boolean }
  | { type: 'RevokeToken'; tenant: string; tokenId: string }

/** Returns what happens, `[]` when it is already so. */
export function decideToken({ status }: { status: TokenStatus }, command: TokenCommand): TokenEvent[] {
  const { tenant, tokenId } = command
  switch (command.type) {
    case 'CreateToken': {
      if (status !== 'absent') return []
      const { name, operator } = command
      return [{ type: 'TokenCreated', typeVersion: 1, data: { tenant, tokenId, name, operator } }]
    }
    case 'RevokeToken':
      if (status === 'revoked') return []
      return [{ type: 'TokenRevoked', typeVersion: 1, data: { tenant, tokenId } }]
  }
}

export const tokenAggregate: Aggregate<{ status: TokenStatus }> = {
  initial: { status: 'absent' },
  evolve: (state, event: PastEvent) => {
    switch ((event as unknown as TokenEvent).type) {
      case 'TokenCreated':
        return { status: 'active' }
      case 'TokenRevoked':
        return { status: 'revoked' }
      default:
        return state
    }
  },
  knows: knownFrom(TOKEN_TRANSITIONS),
}
