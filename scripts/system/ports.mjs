/** Ports: chosen free once, then remembered, so that what a user wrote down stays right after a restart. */
import { readFileSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:net'
import { join } from 'node:path'

// Below the range from which the kernel takes ports for outgoing connections, so that none of them takes ours.
const FIRST = 20_000
const COUNT = 10_000

/**
 * The port of `name` in this system; a new one is picked when there is none yet.
 * @param {string} dir @param {string} name
 */
export async function portFor(dir, name) {
  const ports = readPorts(dir)
  ports[name] ??= await freePort(Object.values(ports))
  writeFileSync(join(dir, 'ports.json'), JSON.stringify(ports))
  return ports[name]
}

/** Another program took the port meanwhile: the next `portFor` picks anew. @param {string} dir @param {string} name */
export function forgetPort(dir, name) {
  const { [name]: _, ...others } = readPorts(dir)
  writeFileSync(join(dir, 'ports.json'), JSON.stringify(others))
}

/** @param {string} dir @returns {Record<string, number>} */
export function readPorts(dir) {
  try {
    return JSON.parse(readFileSync(join(dir, 'ports.json'), 'utf8'))
  } catch {
    return {}
  }
}

/** @param {number[]} taken */
async function freePort(taken) {
  for (let attempt = 0; attempt < 200; attempt++) {
    const port = FIRST + Math.floor(Math.random() * COUNT)
    if (!taken.includes(port) && (await isFree(port))) return port
  }
  throw new Error(`no free port between ${FIRST} and ${FIRST + COUNT}`)
}

/** @param {number} port @returns {Promise<boolean>} */
export function isFree(port) {
  return new Promise((resolve) => {
    const server = createServer()
    server.once('error', () => resolve(false))
    server.listen(port, '127.0.0.1', () => server.close(() => resolve(true)))
  })
}
