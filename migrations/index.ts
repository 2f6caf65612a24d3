/** The schema, as TypeORM migrations in plain SQL. A released one is never edited. */

import pg from 'pg'
import { DataSource, type MigrationInterface } from 'typeorm'
import { Log1790000000001 } from './1-log.js'
import { Placement1790000000002 } from './2-placement.js'
import { Loops1790000000003 } from './3-loops.js'
import { Secrets1790000000004 } from './4-secrets.js'
import { ReadModels1790000000005 } from './5-read-models.js'
import { AuditViews1790000000006 } from './6-audit-views.js'
import { OpenExecs1790000000020 } from './20-open-execs.js'
import { ExecLookups1790000000050 } from './50-exec-lookups.js'
import { Catalog1790000000100 } from './100-catalog.js'
import { Tenants1790000000200 } from './200-tenants.js'
import { ExecSlots1790000000210 } from './210-exec-slots.js'
import { AppsOfSandboxes1790000000300 } from './300-apps-of-sandboxes.js'
import { StoredSecrets1790000000320 } from './320-secrets.js'
import { Append1790000000330 } from './330-append.js'
import { Apps1790000000340 } from './340-apps.js'

export { ensureLogin, type Login } from './logins.js'

/** An explicit list: a glob would find other files in the sources than in the build. */
export const migrations: (new () => MigrationInterface)[] = [
  Log1790000000001,
  Placement1790000000002,
  Loops1790000000003,
  Secrets1790000000004,
  ReadModels1790000000005,
  AuditViews1790000000006,
  OpenExecs1790000000020,
  ExecLookups1790000000050,
  Catalog1790000000100,
  Tenants1790000000200,
  ExecSlots1790000000210,
  AppsOfSandboxes1790000000300,
  StoredSecrets1790000000320,
  Append1790000000330,
  Apps1790000000340,
]

/** A TypeORM data source for migrations only; it is not connected yet. `url`: of an owner of the database. */
export function dataSourceFor(url: string): DataSource {
  return new DataSource({ type: 'postgres', url, migrations, synchronize: false, logging: false })
}

// Any number will do, as long as nobody else in the database uses it.
const MIGRATION_LOCK = 5_117_240_101

/** Brings the database to the newest schema. Safe to call from several processes at once: they take turns. */
export async function migrate(url: string): Promise<void> {
  const guard = new pg.Client({ connectionString: url })
  await guard.connect()
  try {
    await guard.query('select pg_advisory_lock($1)', [MIGRATION_LOCK])
    const source = await dataSourceFor(url).initialize()
    try {
      await source.runMigrations({ transaction: 'each' })
    } finally {
      await source.destroy()
    }
  } finally {
    await guard.end() // Ends the session, and the lock with it.
  }
}
