/**
 * pack.mjs [DIR]: packs what is built in this clone as sandtrail-<version>-<architecture>.tgz into DIR (.sandtrail), for
 * `npm install -g`. In it: services, CLI, migrations, units, documents, the agent of this architecture, and the versions
 * of package-lock.json for everything that they need. `sandtrail-admin tools` brings the rest.
 */
import { execFileSync } from 'node:child_process'
import {
  chmodSync,
  cpSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { CLONE, HOME, tools } from './system/tools.mjs'

const PARTS = [
  'bin',
  'deploy',
  'dist',
  'docs',
  'scripts/deploy',
  'scripts/setup',
  'scripts/setup.sh',
  'scripts/system',
  'CHANGELOG.md',
  'LICENSE',
  'README.md',
  'SECURITY.md',
]
const isShipped = (/** @type {string} */ path) => !/\.(map|tsbuildinfo)$|\/testing[^/]*\.js$/.test(path)

const target = resolve(process.argv[2] ?? HOME)
const staging = mkdtempSync(join(tmpdir(), 'sandtrail-pack-'))
try {
  for (const part of PARTS)
    cpSync(join(CLONE, part), join(staging, part), { recursive: true, filter: isShipped })
  mkdirSync(join(staging, 'libexec'))
  const agent = join(staging, 'libexec', 'sandtrail-agent')
  cpSync(tools().SANDTRAIL_AGENT ?? '', agent)
  chmodSync(agent, 0o755)

  const { devDependencies: _, scripts: __, overrides: ___, ...manifest } = read('package.json')
  write('package.json', { ...manifest, os: ['linux'], cpu: [process.arch] })
  write('npm-shrinkwrap.json', withoutDevelopment(read('package-lock.json')))

  mkdirSync(target, { recursive: true })
  const args = ['pack', '--json', '--ignore-scripts', '--pack-destination', target]
  const [{ filename }] = JSON.parse(execFileSync('npm', args, { cwd: staging, encoding: 'utf8' }))
  const named = join(target, `sandtrail-${manifest.version}-${process.arch}.tgz`)
  renameSync(join(target, filename), named)
  console.log(named)
} finally {
  rmSync(staging, { recursive: true, force: true })
}

/** @param {{ packages: Record<string, { dev?: boolean, devDependencies?: object }> }} lock */
function withoutDevelopment(lock) {
  const kept = Object.entries(lock.packages).filter(([, { dev }]) => dev !== true)
  const { devDependencies: _, ...root } = lock.packages[''] ?? {}
  return { ...lock, packages: { ...Object.fromEntries(kept), '': root } }
}

/** @param {string} name */
function read(name) {
  return JSON.parse(readFileSync(join(CLONE, name), 'utf8'))
}

/** @param {string} name @param {object} value */
function write(name, value) {
  writeFileSync(join(staging, name), `${JSON.stringify(value, null, 2)}\n`)
}
