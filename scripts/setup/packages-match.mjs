/**
 * Exits with 0 when node_modules holds what package-lock.json asks for. npm keeps in
 * node_modules/.package-lock.json what it has installed, so `npm install NAME` counts as well as `npm ci`.
 */
import { readFileSync } from 'node:fs'

const read = (path) => JSON.parse(readFileSync(new URL(`../../${path}`, import.meta.url), 'utf8')).packages

function packagesMatch() {
  const wanted = read('package-lock.json')
  const installed = read('node_modules/.package-lock.json')
  return Object.entries(wanted).every(
    ([path, { version, optional, peer }]) =>
      // An optional package of another platform is rightly absent.
      path === '' || installed[path]?.version === version || ((optional || peer) && !installed[path]),
  )
}

try {
  process.exit(packagesMatch() ? 0 : 1)
} catch {
  process.exit(1) // Nothing is installed yet.
}
