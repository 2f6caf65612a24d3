/** The first token of an installation, an operator's, and the base image for all tenants. */
import { firstToken, importBaseImage } from '../system/first-use.mjs'
import { readEnvFile } from './env-file.mjs'

/** Safe to run again. @param {import('./layout.mjs').Layout} layout */
export async function bootstrap(layout) {
  const env = readEnvFile(layout.envFile('gateway'))
  const { SANDTRAIL_DATABASE_URL = '', SANDTRAIL_PUBLIC_URL = '', SANDTRAIL_CA_FILE = '' } = env
  const token = await firstToken(layout.key('token'), SANDTRAIL_DATABASE_URL)
  await importBaseImage({ SANDTRAIL_URL: SANDTRAIL_PUBLIC_URL, SANDTRAIL_TOKEN: token, SANDTRAIL_CA_FILE })
  const ca = SANDTRAIL_CA_FILE === '' ? '' : ` --ca ${SANDTRAIL_CA_FILE}`
  console.log(`sandtrail login ${SANDTRAIL_PUBLIC_URL}${ca} < ${layout.key('token')}`)
}
