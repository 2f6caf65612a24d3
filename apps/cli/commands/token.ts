import { Api, path } from '../api.js'
import { ago, chooseFormat, type Format, note, printJson, printLine, printTable } from '../print.js'

export interface Token {
  id: string
  name: string
  operator: boolean
  createdAt: string
  revokedAt: string | null
}

/** Prints the token alone. The server keeps only a hash of it. */
export async function createToken(
  name: string,
  flags: { operator?: boolean; output?: Format },
): Promise<void> {
  if (flags.output !== undefined) chooseFormat(flags.output)
  const api = Api.fromEnvironment()
  const made = await api.json<{ id: string; token: string }>('POST', '/v1/tokens', {
    json: { name, operator: flags.operator ?? false },
  })
  api.close()
  if (flags.output === 'json') {
    printJson(made)
    return
  }
  if (process.stdout.isTTY) note('It is shown this once:')
  printLine(made.token)
}

export async function listTokens(flags: { output?: Format }): Promise<void> {
  const format = chooseFormat(flags.output)
  const api = Api.fromEnvironment()
  const { tokens } = await api.json<{ tokens: Token[] }>('GET', '/v1/tokens')
  api.close()
  if (format === 'json') {
    printJson(tokens)
    return
  }
  printTokens(tokens)
}

export function printTokens(tokens: Token[]): void {
  const now = new Date()
  printTable(
    ['TOKEN', 'NAME', 'OPERATOR', 'CREATED', 'REVOKED'],
    tokens.map((token) => [
      token.id,
      token.name,
      token.operator ? 'yes' : '-',
      ago(token.createdAt, now),
      ago(token.revokedAt, now),
    ]),
  )
}

export async function revokeToken(id: string): Promise<void> {
  const api = Api.fromEnvironment()
  await api.json('DELETE', path`/v1/tokens/${id}`)
  printLine(id)
  api.close()
}
