/**
 * make-golden.mjs RELEASE OUT: runs the release in the clone RELEASE (set up and built), has it write events of every
 * type that it knows, and keeps its data in OUT: what `upgrade.int.spec.ts` of every later release starts from.
 *
 *   log/, tenant-keys/     a backup, taken with the services stopped
 *   keys/                  master.key, trail.key, trail.vkey: this data's alone, made for it and used for nothing else
 *   states.json            every aggregate as the release itself folds it
 */
import { cpSync, mkdirSync, writeFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { setTimeout } from 'node:timers/promises'
import { backup } from '../../scripts/deploy/backup.mjs'
import { layoutOf } from '../../scripts/deploy/layout.mjs'

const [release = '', out = ''] = process.argv.slice(2).map((path) => resolve(path))
const ofRelease = (/** @type {string} */ path) => import(join(release, path))
const { startSystem } = await ofRelease('scripts/system/system.mjs')
const { sh } = await ofRelease('scripts/system/tools.mjs')
const store = await ofRelease('dist/libs/event-store/index.js')
const domain = await ofRelease('dist/libs/domain/index.js')
const commands = await ofRelease('dist/libs/command-handling/index.js')

const system = await startSystem()
try {
  await live()
  const db = store.openDatabase({ url: system.env.DATABASE_ADMIN_URL, max: 2, name: 'golden' })
  await writeTheRest(db)
  await setTimeout(2_000) // The read models follow.
  // In order: what was accepted gets its position, and the trail file its end.
  for (const name of ['worker-1', 'gateway', 'snapshotter', 'volume-syncer', 'scheduler-1']) {
    await system.kill(name, 'SIGTERM')
  }
  mkdirSync(join(out, 'keys'), { recursive: true })
  writeFileSync(join(out, 'states.json'), `${JSON.stringify(await states(db), null, 1)}\n`)
  await db.end()
  const layout = layoutOf({ etc: system.dir, state: system.dir })
  await backup(layout, system.env.DATABASE_ADMIN_URL, join(out, 'log'), join(out, 'tenant-keys'))
  for (const name of ['master.key', 'trail.key', 'trail.vkey']) cpSync(layout.key(name), join(out, 'keys', name))
} finally {
  await system.stop()
}

/** What users do. One sandbox still runs at the end, with a sealed value. */
async function live() {
  await cli('volume', 'create', 'data')
  await cli('run', '--volume', 'data:/data', '--', 'sh', '-c', 'echo kept > /data/file')
  await cli('run', '--timeout', '1s', '--', 'sleep', '60').catch(() => {})
  const first = await cli('create', '--name', 'first', '--tag', 'kind=golden')
  await cli('exec', 'first', '--', 'true')
  await cli('exec', 'first', '--', '/not/there').catch(() => {})
  await cli('run', '--image', await cli('snapshot', 'first'), '--', 'true')
  await cli('create', '--name', 'first').catch(() => {}) // A rejection.
  await cli('rm', first)
  await cli('wait', first).catch(() => {})
  await cli('create', '--name', 'runs', '--env', 'GREETING=sealed-value', '--volume', 'data:/data')
  await cli('exec', '--detach', 'runs', '--', 'sleep', '600')
}

/** What would need faults: decided and appended by the release's own code, on streams of their own. */
async function writeTheRest(/** @type {any} */ db) {
  const { rows } = await db.query(`select data -> 'spec' as spec from events where type = 'SandboxCreated' order by seq limit 1`)
  const workerId = id('wk')
  const [sandboxId, imageId] = [id('sb'), id('im')]
  const placement = { workerId, epoch: 1 }
  const created = { type: 'CreateSandbox', spec: { ...rows[0].spec, volumes: [] }, placement }
  const lost = [created, { type: 'ReportStarted', ...placement, volumes: [] }, { type: 'DeclareLost', epoch: 1, reason: 'golden' }]
  const stopped = { type: 'ReportEnded', ...placement, ending: { kind: 'stopped' }, staged: [] }
  const failed = { kind: 'failed', step: 'run', code: 'OUT_OF_MEMORY', message: 'golden' }
  await write(db, 'Sandbox', sandboxId, [...lost, stopped])
  await write(db, 'Sandbox', id('sb'), [
    created,
    { ...stopped, ending: failed },
    { type: 'ReportCleanedUp', ...placement, leftovers: ['a mount'] },
  ])
  const request = { type: 'RequestExec', spec: execSpec(sandboxId) }
  const mayHaveRun = { kind: 'lost', mayHaveRun: true, reason: 'golden' }
  await write(db, 'Exec', id('ex'), [
    request,
    { type: 'ReportExecStarted', epoch: 1, pid: 7 },
    { type: 'SignalExec', signal: 15 },
    { type: 'ReportExecEnded', epoch: 1, ending: mayHaveRun },
  ])
  const imported = { type: 'ImportImage', name: 'golden:1', sha256: '0'.repeat(64), bytes: 1 }
  await write(db, 'Image', imageId, [imported, { type: 'FailImport', code: 'INVALID_ARGUMENT', message: 'golden' }])
  await write(db, 'Image', id('im'), [imported, { type: 'RemoveImage' }])
  await write(db, 'Snapshot', id('sn'), [
    { type: 'RequestSnapshot', sandboxId, workerId, epoch: 1, imageId, parent: imageId },
    { type: 'FailSnapshot', code: 'DEADLINE_EXCEEDED', message: 'golden' },
  ])
  await write(db, 'Volume', id('vo'), [
    { type: 'CreateVolume', name: 'golden', workerId },
    { type: 'RequestCommit', commitId: 'c1', sandboxId },
    { type: 'FailCommit', commitId: 'c1', code: 'UNAVAILABLE', message: 'golden', wasStaged: false },
    { type: 'RecordReload', sandboxId, fromVersion: 0, toVersion: 0 },
    { type: 'RemoveVolume' },
  ])
  if (domain.decideWorker) {
    await write(db, 'Worker', id('wk'), [
      { type: 'CordonWorker', reason: 'golden' },
      { type: 'UncordonWorker' },
      { type: 'DrainWorker', reason: 'golden', timeoutMs: null },
      { type: 'RecordDrained' },
    ])
  }
}

/** @param {string} prefix */
function id(prefix) {
  return domain.makeId(prefix, Date.now(), crypto.getRandomValues(new Uint8Array(10)))
}

/** @param {string} sandboxId */
function execSpec(sandboxId) {
  const where = { sandboxId, epoch: 1, workdir: null, user: null }
  return { ...where, argv: ['true'], envNames: [], pty: null, stdin: 'closed', timeoutMs: null }
}

/** @param {any} db @param {string} aggregate @param {string} stream @param {object[]} wanted */
async function write(db, aggregate, stream, wanted) {
  const decide = domain[`decide${aggregate}`]
  const { initial, evolve } = domain[`${aggregate.toLowerCase()}Aggregate`]
  let [state, version] = [initial, 0]
  for (const command of wanted) {
    const events = decide(state, command)
    if (events.length === 0) throw new Error(`${aggregate} ${JSON.stringify(command)} decides nothing`)
    const written = commandFor(stream)
    const writes = [{ stream, expectedVersion: version, events: commands.record(events) }]
    await commands.handleCommand({ db }, written, async () => ({ outcome: {}, writes }))
    for (const event of events) state = evolve(state, { ...event, version: ++version, atMs: 0 })
  }
}

/** @param {string} stream */
function commandFor(stream) {
  const verb = 'golden.write'
  const expiresAt = new Date(Date.now() + 3_600_000)
  const ref = { id: crypto.randomUUID(), verb, hash: store.commandHash(verb, { stream }), expiresAt }
  const meta = { actor: 'system:golden', causationId: null, correlationId: null, traceparent: null }
  return { tenant: 'default', ref, meta: { ...meta, workerId: null, epoch: null }, body: { stream } }
}

/** @param {any} db */
async function states(db) {
  const { rows } = await db.query(`select distinct stream from events where stream ~ '^(sb|ex|im|sn|vo|wk)-' order by 1`)
  /** @type {Record<string, object>} */
  const found = {}
  for (const { stream } of rows) {
    const name = { sb: 'sandbox', ex: 'exec', im: 'image', sn: 'snapshot', vo: 'volume', wk: 'worker' }[stream.slice(0, 2)]
    const { state, version } = await store.load(db, domain[`${name}Aggregate`], stream)
    found[stream] = { version, state }
  }
  return found
}

/** @param {string[]} args */
async function cli(...args) {
  const { SANDTRAIL_URL, SANDTRAIL_TOKEN } = system.env
  const env = { PATH: process.env.PATH ?? '', HOME: '/', SANDTRAIL_URL, SANDTRAIL_TOKEN }
  return (await sh(join(release, 'bin', 'sandtrail'), args, { env })).trim()
}
