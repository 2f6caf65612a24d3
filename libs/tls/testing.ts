/** For tests only: an authority, and certificates of it with any names and any end. */

import { execFileSync } from 'node:child_process'
import { copyFileSync, mkdtempSync, rmSync } from 'node:fs'
import { isIP } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

export interface Pair {
  certFile: string
  keyFile: string
}

export interface TestAuthority {
  dir: string
  caFile: string
  /** `days` -1: it ended yesterday. In files called `name`, which may be there already. */
  issue(name: string, given?: { names?: string[]; days?: number }): Pair
  close(): void
}

const KEY = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-config', '/dev/null']

export function createAuthority(): TestAuthority {
  const dir = mkdtempSync(join(tmpdir(), 'sandtrail-tls-'))
  const openssl = (...argv: string[]) => execFileSync('openssl', argv, { cwd: dir, stdio: 'pipe' })
  openssl(
    ...['req', '-x509', ...KEY, '-days', '30', '-subj', '/CN=test authority'],
    ...['-addext', 'basicConstraints=critical,CA:TRUE', '-addext', 'keyUsage=critical,keyCertSign'],
    ...['-keyout', 'ca.key', '-out', 'ca.pem'],
  )
  return {
    dir,
    caFile: join(dir, 'ca.pem'),
    issue(name, { names = ['localhost', '127.0.0.1'], days = 30 } = {}) {
      const subject = names.map((each) => `${isIP(each) ? 'IP' : 'DNS'}:${each}`).join(',')
      openssl(
        ...['req', '-new', ...KEY, '-subj', `/CN=${name}`, '-addext', `subjectAltName=${subject}`],
        ...['-keyout', 'new.key', '-out', 'new.csr'],
      )
      openssl(
        ...['x509', '-req', '-in', 'new.csr', '-CA', 'ca.pem', '-CAkey', 'ca.key', '-days', `${days}`],
        ...['-copy_extensions', 'copy', '-out', 'new.pem'],
      )
      const pair = { certFile: join(dir, `${name}.pem`), keyFile: join(dir, `${name}.key`) }
      // In two steps, as others renew them.
      copyFileSync(join(dir, 'new.key'), pair.keyFile)
      copyFileSync(join(dir, 'new.pem'), pair.certFile)
      return pair
    },
    close: () => rmSync(dir, { recursive: true }),
  }
}
