/** Environment files as systemd reads them: `KEY=value` a line. Ours hold no quotes and no line breaks in values. */
import { existsSync, readFileSync, writeFileSync } from 'node:fs'

/** @param {string} path @returns {Record<string, string>} */
export function readEnvFile(path) {
  const lines = readFileSync(path, 'utf8').split('\n')
  return Object.fromEntries(
    lines
      .filter((line) => /^\s*[A-Z_]+=/.test(line))
      .map((line) => [line.slice(0, line.indexOf('=')).trim(), line.slice(line.indexOf('=') + 1).trim()]),
  )
}

/**
 * Adds what the file has not; what is there belongs to whoever runs the installation. True when it wrote anything.
 * @param {string} path @param {Record<string, string>} wanted
 */
export function addToEnvFile(path, wanted) {
  const has = existsSync(path) ? readEnvFile(path) : {}
  const missing = Object.entries(wanted).filter(([key]) => !(key in has))
  if (missing.length === 0) return false
  const text = existsSync(path) ? readFileSync(path, 'utf8').replace(/\n?$/, '\n') : ''
  writeFileSync(path, text + missing.map(([key, value]) => `${key}=${value}\n`).join(''), { mode: 0o600 })
  return true
}
