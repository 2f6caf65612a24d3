/** The main job on a private system, as a trail to read: what is done, what it prints, and what was recorded. */
import { spawn } from 'node:child_process'
import { randomUUID } from 'node:crypto'
import { join } from 'node:path'
import { connect, headers } from '@nats-io/transport-node'
import { startSystem } from './system.mjs'
import { CLONE, HOME } from './tools.mjs'

export async function demo() {
  title('Start a private system: Postgres, nats-server, a pool and every service')
  const started = performance.now()
  const system = await startSystem({
    logs: join(HOME, 'logs', 'demo'),
    say: (line) => console.log(`  ${line}`),
  })
  try {
    console.log(`  ready in ${((performance.now() - started) / 1000).toFixed(1)} s`)
    await mainJob(system.env)
  } finally {
    title('Stop it')
    await system.stop()
    console.log('  nothing is left of it on this host')
  }
}

/** @param {Record<string, string>} env */
async function mainJob(env) {
  const sandtrail = (/** @type {string[]} */ ...args) => show(env, args)

  title('A volume, and a sandbox created by a command on NATS that mounts it')
  await sandtrail('volume', 'create', 'demo-data')
  const first = await createOverNats(env)

  title('Programs run in it')
  await sandtrail(
    'exec',
    first,
    '--',
    'python3',
    '-c',
    'import platform; print("Python", platform.python_version())',
  )
  await sandtrail(
    'exec',
    first,
    '--',
    'sh',
    '-c',
    'echo precious > /data/kept; echo here > /root/note; uname -a',
  )

  title('A snapshot of its filesystem starts a second sandbox')
  const snapshot = (await sandtrail('snapshot', first)).trim()
  const second = (await sandtrail('create', '--image', snapshot)).trim()
  await sandtrail('exec', second, '--', 'cat', '/root/note')

  title('Both end; the volume keeps what was written')
  await sandtrail('rm', first, second)
  await sandtrail('run', '--volume', 'demo-data:/data:ro', '--', 'cat', '/data/kept')

  title('Their whole lives, read back from Postgres and verified')
  await sandtrail('history', first, '-o', 'table')
  await sandtrail('history', second, '-o', 'table')
  await sandtrail('verify')
}

/** What any service with a NATS client does. @param {Record<string, string>} env @returns {Promise<string>} */
async function createOverNats({ NATS_URL, NATS_USER, NATS_PASSWORD }) {
  const body = {
    volumes: [{ volume: 'demo-data', path: '/data' }],
    timeoutMs: 600_000,
    tags: { demo: 'yes' },
  }
  console.log(`$ nats request req.sandbox.create '${JSON.stringify(body)}'`)
  const nc = await connect({
    servers: NATS_URL ?? '',
    user: NATS_USER ?? '',
    pass: NATS_PASSWORD ?? '',
    inboxPrefix: `_INBOX.${NATS_USER}`,
  })
  try {
    const command = headers()
    command.set('Sandtrail-Command-Id', randomUUID())
    command.set('Sandtrail-Expires-At', new Date(Date.now() + 600_000).toISOString())
    const reply = await nc.request('req.sandbox.create', JSON.stringify(body), {
      timeout: 30_000,
      headers: command,
    })
    const answer = /** @type {{ sandboxId?: string }} */ (reply.json())
    console.log(indent(JSON.stringify(answer)))
    if (answer.sandboxId === undefined) throw new Error('the create was refused')
    return answer.sandboxId
  } finally {
    await nc.close()
  }
}

/**
 * Runs the command line client and shows what it prints.
 * @param {Record<string, string>} env @param {string[]} args @returns {Promise<string>} its stdout
 */
function show({ SANDTRAIL_URL = '', SANDTRAIL_TOKEN = '' }, args) {
  console.log(
    `$ sandtrail ${args.map((word) => (/^[\w./:@=-]+$/.test(word) ? word : `'${word}'`)).join(' ')}`,
  )
  return new Promise((resolve, reject) => {
    const env = { PATH: process.env.PATH, HOME: process.env.HOME, SANDTRAIL_URL, SANDTRAIL_TOKEN }
    const child = spawn(join(CLONE, 'bin', 'sandtrail'), args, { env, stdio: ['ignore', 'pipe', 'pipe'] })
    let out = ''
    child.stdout.setEncoding('utf8').on('data', (text) => {
      out += text
    })
    child.stderr.setEncoding('utf8').on('data', (text) => console.log(indent(text)))
    child.on('error', reject)
    child.on('close', (code) => {
      if (out.trim() !== '') console.log(indent(out))
      if (code === 0) resolve(out)
      else reject(new Error(`sandtrail ${args[0]} ended with ${code}`))
    })
  })
}

const title = (/** @type {string} */ text) => console.log(`\n== ${text}`)
const indent = (/** @type {string} */ text) => text.trimEnd().replaceAll(/^/gm, '  ')
