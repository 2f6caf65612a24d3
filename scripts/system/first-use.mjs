/** What a fresh system gets before anybody uses it: the first token, and the base image. */
import { createHash } from 'node:crypto'
import { createReadStream, existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { once, TENANT } from './keys.mjs'
import { CLONE, sh, tools } from './tools.mjs'

/** Makes it once, an operator's. @param {string} path of its file @param {string} databaseUrl */
export async function firstToken(path, databaseUrl) {
  if (!existsSync(path)) {
    const bootstrap = join(CLONE, 'dist', 'apps', 'gateway', 'bootstrap.js')
    const env = { ...process.env, SANDTRAIL_DATABASE_URL: databaseUrl }
    const token = (await sh(process.execPath, [bootstrap, TENANT, '--operator'], { env })).trim()
    once(path, () => token)
  }
  return readFileSync(path, 'utf8')
}

const BASE_IMAGE_NAME = 'base:latest'

/** For all tenants, unless this very file is what the name stands for. @param {Record<string, string>} env */
export async function importBaseImage(env) {
  const { SANDTRAIL_BASE_IMAGE = '' } = tools()
  const hash = createHash('sha256')
  for await (const chunk of createReadStream(SANDTRAIL_BASE_IMAGE)) hash.update(chunk)
  const digest = `sha256:${hash.digest('hex')}`
  /** @type {{ name: string, state: string, digest: string, shared: boolean }[]} newest first */
  const images = JSON.parse(await cli(env, 'image', 'ls', '--output', 'json'))
  const current = images.find(
    ({ name, state, shared }) => name === BASE_IMAGE_NAME && state === 'ready' && shared,
  )
  if (current?.digest === digest) return
  await cli(env, 'image', 'import', SANDTRAIL_BASE_IMAGE, '--name', BASE_IMAGE_NAME, '--shared')
}

/** Runs bin/sandtrail against the system. @param {Record<string, string>} env @param {string[]} args */
export function cli({ SANDTRAIL_URL = '', SANDTRAIL_TOKEN = '', SANDTRAIL_CA_FILE = '' }, ...args) {
  const { PATH = '', HOME = '/' } = process.env
  const env = { PATH, HOME, SANDTRAIL_URL, SANDTRAIL_TOKEN, SANDTRAIL_CA_FILE }
  return sh(join(CLONE, 'bin', 'sandtrail'), args, { env })
}

/**
 * A token in the two parts that the Modal SDKs take.
 *
 * @param {string} token
 */
export function modalToken(token) {
  const [, id = '', secret = ''] = /^st_(ak-.{16})_(as-.{32})$/.exec(token) ?? []
  return { MODAL_TOKEN_ID: id, MODAL_TOKEN_SECRET: secret }
}
