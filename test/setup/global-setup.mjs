/**
 * One Postgres and one nats-server for the whole run, private to it, when it has an `*.int.spec.ts`. Test files find
 * them in SANDTRAIL_TEST_PG_URL (a superuser's), SANDTRAIL_TEST_NATS_URL and SANDTRAIL_TEST_NATS_BIN, and make
 * databases and subjects of their own there. SANDTRAIL_PG_URL and SANDTRAIL_NATS_URL name servers to use instead.
 */
import { globSync } from 'node:fs'
import { join } from 'node:path'
import { plainNatsConfig, startNats } from '../../scripts/system/nats.mjs'
import { startPostgres } from '../../scripts/system/postgres.mjs'
import { createPrivateDir, OWNER } from '../../scripts/system/state.mjs'
import { destroyOwned, destroyOwnedOnSignals, sweep } from '../../scripts/system/sweep.mjs'
import { CLONE, tools } from '../../scripts/system/tools.mjs'

/** @param {import('jest').Config & Record<string, any>} globalConfig @param {Record<string, any>} projectConfig */
export default async function setUp(globalConfig, projectConfig) {
  process.env.SANDTRAIL_TEST_NATS_BIN = tools().SANDTRAIL_NATS_SERVER
  // Systems that test files start, in workers too, belong to this process.
  process.env[OWNER] = String(process.pid)
  await sweep()
  // Jest runs no teardown when it is interrupted.
  destroyOwnedOnSignals()
  if (!needsServers(globalConfig, projectConfig)) return

  const dir = createPrivateDir()
  try {
    const [postgresUrl, natsUrl] = await Promise.all([
      process.env.SANDTRAIL_PG_URL ?? startPostgres(dir, { log: join(dir, 'postgres.log') }),
      process.env.SANDTRAIL_NATS_URL ??
        startNats(dir, { log: join(dir, 'nats.log'), renderConfig: plainNatsConfig }),
    ])
    process.env.SANDTRAIL_TEST_PG_URL = postgresUrl
    process.env.SANDTRAIL_TEST_NATS_URL = natsUrl
  } catch (error) {
    await destroyOwned()
    throw error
  }
}

/** @param {Record<string, any>} globalConfig @param {Record<string, any>} projectConfig */
function needsServers({ testPathPatterns }, { testPathIgnorePatterns = [] }) {
  const wanted = (testPathPatterns?.patterns ?? []).map((/** @type {string} */ pattern) => new RegExp(pattern, 'i'))
  const ignored = testPathIgnorePatterns.map((/** @type {string} */ pattern) => new RegExp(pattern))
  return globSync('{apps,libs,migrations,test}/**/*.int.spec.ts', { cwd: CLONE })
    .map((file) => join(CLONE, file))
    .some(
      (file) =>
        (wanted.length === 0 || wanted.some((/** @type {RegExp} */ pattern) => pattern.test(file))) &&
        !ignored.some((/** @type {RegExp} */ pattern) => pattern.test(file)),
    )
}
