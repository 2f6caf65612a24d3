import { resolve } from 'node:path'
import { createInterface } from 'node:readline'
import { Writable } from 'node:stream'
import { Api } from '../api.js'
import { usage } from '../failure.js'
import { note } from '../print.js'
import { keepSettings } from '../settings.js'

/** The token comes from stdin: an argument could be read by everybody on this host. */
export async function login(url: string, { ca }: { ca?: string }): Promise<void> {
  const token = (await readToken()).trim()
  if (token === '') throw usage('no token came on stdin', 'pipe it in: `sandtrail login URL < token-file`')
  // Kept as a whole path: commands are run anywhere.
  const given = ca ?? process.env.SANDTRAIL_CA_FILE
  const caFile = given ? resolve(given) : null
  const api = new Api({ url, token, caFile })
  const { tenant } = await api.json<{ tenant: string }>('GET', '/v1/whoami')
  api.close()
  const file = keepSettings({ url: api.base.origin, token, caFile })
  note(`logged in to ${api.base.origin} as tenant ${tenant}; kept in ${file}`)
}

async function readToken(): Promise<string> {
  if (!process.stdin.isTTY) {
    const chunks: Buffer[] = []
    for await (const chunk of process.stdin) chunks.push(chunk as Buffer)
    return Buffer.concat(chunks).toString('utf8')
  }
  process.stderr.write('Token: ')
  // What is typed is not shown: readline echoes to a sink.
  const silent = new Writable({ write: (_chunk, _encoding, done) => done() })
  const reader = createInterface({ input: process.stdin, output: silent, terminal: true })
  try {
    for await (const line of reader) return line
    return ''
  } finally {
    reader.close()
    process.stderr.write('\n')
  }
}
