/** The units of deploy/systemd, with the paths of this installation in them. */
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { CLONE } from '../system/tools.mjs'

const TEMPLATES = join(CLONE, 'deploy', 'systemd')

/**
 * Changes to a unit belong into drop-ins (`systemctl edit`): these are written anew by each `install`.
 *
 * @param {string} dir
 * @param {{ etc: string, state: string, user: string, node: string, natsServer: string }} values
 * @returns {string[]} their names
 */
export function writeUnits(dir, { etc, state, user, node, natsServer }) {
  const names = readdirSync(TEMPLATES).filter((name) => /\.(service|target)$/.test(name))
  /** @type {Record<string, string>} */
  const values = {
    ETC: etc,
    STATE: state,
    USER: user,
    NODE: node,
    NATS_SERVER: natsServer,
    PACKAGE: CLONE,
    HARDENED: readFileSync(join(TEMPLATES, 'hardened.conf'), 'utf8').trimEnd(),
  }
  mkdirSync(dir, { recursive: true })
  for (const name of names) {
    const template = readFileSync(join(TEMPLATES, name), 'utf8')
    const text = template.replace(/@([A-Z_]+)@/g, (_, key) => {
      const value = values[key]
      if (value === undefined) throw new Error(`${name} asks for ${key}, which nobody knows`)
      return value
    })
    writeFileSync(join(dir, name), text, { mode: 0o644 })
  }
  return names
}
