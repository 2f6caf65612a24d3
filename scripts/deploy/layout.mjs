/** Where an installation keeps what: docs/install.md has the same as a table. */
import { join, resolve } from 'node:path'

/**
 * @typedef {object} Layout
 * @property {string} etc keys/, nats.conf, one <service>.env each
 * @property {string} state
 * @property {string} trailFile the trail outside the database
 * @property {string} natsStore
 * @property {(service: string) => string} envFile
 * @property {(name: string) => string} key
 */

/** @param {Record<string, string | undefined>} options @returns {Layout} */
export function layoutOf({ etc: etcDir = '/etc/sandtrail', state: stateDir = '/var/lib/sandtrail' }) {
  const [etc, state] = [resolve(etcDir), resolve(stateDir)]
  return {
    etc,
    state,
    trailFile: join(state, 'trail', 'trail.jsonl'),
    natsStore: join(state, 'nats', 'store'),
    envFile: (service) => join(etc, `${service}.env`),
    key: (name) => join(etc, 'keys', name),
  }
}
