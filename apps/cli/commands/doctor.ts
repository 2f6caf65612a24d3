import { execFile } from 'node:child_process'
import { statSync } from 'node:fs'
import { promisify } from 'node:util'
import { toErrorBody } from '#libs/domain'
import { isLoopback, NEAR_EXPIRY_MS, peerExpiry } from '#libs/tls'
import { Api } from '../api.js'
import { Exit } from '../failure.js'
import { chooseFormat, type Format, plain, printJson, printLine } from '../print.js'
import { readSettings, settingsFile } from '../settings.js'

export interface Check {
  name: string
  ok: boolean
  detail: string
  hint: string | null
}

/** @throws Exit 1 when something is wrong */
export async function doctor(flags: { output?: Format }): Promise<void> {
  const format = chooseFormat(flags.output)
  const checks = await findChecks()
  if (format === 'json') printJson({ ok: checks.every(({ ok }) => ok), checks })
  else for (const check of checks) show(check)
  if (checks.some(({ ok }) => !ok)) throw new Exit(1)
}

/** What stands on what: after the first that fails, what needs it is not asked. */
export async function findChecks(): Promise<Check[]> {
  const settings = readSettings()
  const checks = [await tarCheck()]
  let api: Api
  try {
    api = new Api(settings)
  } catch (error) {
    const { message } = toErrorBody(error)
    const hint = 'see SANDTRAIL_URL and SANDTRAIL_CA_FILE, and what `sandtrail login` kept'
    return [...checks, { name: 'server', ok: false, detail: message, hint }]
  }
  const server = await check('server', () => api.json('GET', '/livez'), `answers at ${api.base.origin}`)
  checks.push(server)
  if (!server.ok) return checks
  checks.push(await encryptionCheck(api.base))
  if (settings.token === null) {
    const hint = 'set SANDTRAIL_TOKEN, or `sandtrail login URL`; on this host: `. .sandtrail/env`'
    return [...checks, { name: 'token', ok: false, detail: 'there is none', hint }]
  }
  checks.push(await clockCheck(api), ...settingsCheck())
  const token = await tokenCheck(api)
  checks.push(token)
  if (!token.ok) return checks
  const health = await api.json<{ checks: Check[] }>('GET', '/v1/health')
  api.close()
  return [...checks, ...health.checks]
}

async function check(name: string, ask: () => Promise<unknown>, detail: string): Promise<Check> {
  try {
    await ask()
    return { name, ok: true, detail, hint: null }
  } catch (error) {
    const { message, hint } = toErrorBody(error)
    return { name, ok: false, detail: message, hint }
  }
}

async function tokenCheck(api: Api): Promise<Check> {
  try {
    const { tenant, operator } = await api.json<{ tenant: string; operator: boolean }>('GET', '/v1/whoami')
    const detail = `is valid, of the tenant ${tenant}${operator ? ", an operator's" : "; an operator's is told more here"}`
    return { name: 'token', ok: true, detail, hint: null }
  } catch (error) {
    const { message, hint } = toErrorBody(error)
    return { name: 'token', ok: false, detail: message, hint }
  }
}

/** A command's expiry is set by the server's clock; `--since 2h` and the like by ours. */
async function clockCheck(api: Api): Promise<Check> {
  const askedAt = Date.now()
  const answer = await api.open('GET', '/livez')
  answer.resume()
  const skewMs = Date.parse(answer.headers.date ?? '') - (askedAt + Date.now()) / 2
  const name = 'clock'
  // The header has whole seconds.
  if (Number.isNaN(skewMs) || Math.abs(skewMs) <= SKEW_MS_MAX) {
    return { name, ok: true, detail: "agrees with the server's", hint: null }
  }
  const detail = `is ${Math.round(-skewMs / 1000)} s ahead of the server's: \`--since\` and \`--at\` mean other times there`
  return { name, ok: false, detail, hint: 'run an NTP client here, or on the server' }
}

const SKEW_MS_MAX = 10_000

/** What goes between here and the server, and for how long yet. The certificate is trusted: the server has answered. */
async function encryptionCheck({ protocol, hostname, port }: URL): Promise<Check> {
  const name = 'encryption'
  const host = hostname.replace(/^\[|\]$/g, '')
  if (protocol === 'http:') {
    if (isLoopback(host))
      return { name, ok: true, detail: 'none, and none is needed on this host', hint: null }
    const detail = 'none: whoever is between here and the server reads the token, and what is run'
    return {
      name,
      ok: false,
      detail,
      hint: 'give the gateway a certificate (docs/operations.md), and use https://',
    }
  }
  try {
    const expiresAt = await peerExpiry({ protocol: 'https', host, port: Number(port || 443) })
    const detail = `TLS; the server's certificate is valid until ${expiresAt.toISOString().slice(0, 10)}`
    if (+expiresAt - Date.now() > NEAR_EXPIRY_MS) return { name, ok: true, detail, hint: null }
    return { name, ok: false, detail, hint: 'have it renewed: from then on nobody can connect' }
  } catch (error) {
    return { name, ok: false, detail: (error as Error).message, hint: 'see whether a proxy is in between' }
  }
}

/** The token in the file is a password. */
function settingsCheck(): Check[] {
  const file = settingsFile(process.env)
  const info = statSync(file, { throwIfNoEntry: false })
  if (info === undefined || (info.mode & 0o077) === 0) return []
  const detail = `${file} can be read by others, and it holds a token`
  return [
    {
      name: 'settings',
      ok: false,
      detail,
      hint: `chmod 600 ${file}; have the token revoked if others were there`,
    },
  ]
}

async function tarCheck(): Promise<Check> {
  try {
    const { stdout } = await promisify(execFile)('tar', ['--version'], { env: process.env })
    return { name: 'tar', ok: true, detail: stdout.split('\n')[0] ?? '', hint: null }
  } catch {
    return { name: 'tar', ok: false, detail: 'not found', hint: '`sandtrail cp` needs tar: install it' }
  }
}

function show({ name, ok, detail, hint }: Check): void {
  printLine(`${ok ? 'ok   ' : 'FAILS'}  ${name.padEnd(14)}  ${plain(detail)}`)
  if (hint !== null) printLine(`       to do: ${plain(hint)}`)
}
