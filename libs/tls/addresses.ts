import { isIP } from 'node:net'

/** True for what never leaves this host. A name other than `localhost` may mean any address, so it does not count. */
export function isLoopback(host: string): boolean {
  const bare = host.replace(/^\[|\]$/g, '').toLowerCase()
  if (bare === 'localhost' || bare === '::1') return true
  return isIP(bare) === 4 && bare.startsWith('127.')
}
