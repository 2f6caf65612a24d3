/** Which server, and with which token: the environment, else what `sandtrail login` kept. */

import { mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs'
import { homedir } from 'node:os'
import { dirname, join } from 'node:path'
import { Rejected } from '#libs/domain'

export interface Settings {
  url: string
  token: string | null
  /** File with the PEM of the authorities that count for https; null: the system's. */
  caFile: string | null
}

const URL_DEFAULT = 'http://127.0.0.1:8480'

/** SANDTRAIL_URL, SANDTRAIL_TOKEN and SANDTRAIL_CA_FILE each win over the file. */
export function readSettings(env: NodeJS.ProcessEnv = process.env): Settings {
  const kept = readKept(env)
  return {
    url: env.SANDTRAIL_URL || kept?.url || URL_DEFAULT,
    // A token belongs to its server: that of the file is never sent to another one.
    token:
      env.SANDTRAIL_TOKEN ||
      (env.SANDTRAIL_URL && env.SANDTRAIL_URL !== kept?.url ? null : kept?.token) ||
      null,
    caFile: env.SANDTRAIL_CA_FILE || kept?.caFile || null,
  }
}

/** Readable by its owner only, also when an older file was not. */
export function keepSettings(
  settings: { url: string; token: string; caFile: string | null },
  env: NodeJS.ProcessEnv = process.env,
): string {
  const file = settingsFile(env)
  mkdirSync(dirname(file), { recursive: true, mode: 0o700 })
  const beside = `${file}.${process.pid}`
  writeFileSync(beside, `${JSON.stringify(settings, null, 2)}\n`, { mode: 0o600 })
  renameSync(beside, file)
  return file
}

/** Where `sandtrail login` keeps them. */
export function settingsFile(env: NodeJS.ProcessEnv): string {
  return join(env.XDG_CONFIG_HOME || join(env.HOME || homedir(), '.config'), 'sandtrail', 'config.json')
}

function readKept(env: NodeJS.ProcessEnv): { url: string; token: string; caFile: string | null } | null {
  const file = settingsFile(env)
  let text: string
  try {
    text = readFileSync(file, 'utf8')
  } catch {
    return null
  }
  try {
    const { url, token, caFile } = JSON.parse(text) as { url: string; token: string; caFile?: string | null }
    return { url, token, caFile: caFile ?? null }
  } catch {
    throw new Rejected('INVALID_ARGUMENT', `${file} is not what \`sandtrail login\` writes`, {
      hint: 'remove it and log in again',
    })
  }
}
