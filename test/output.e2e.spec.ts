import { spawn } from 'node:child_process'
import { createHash } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from '@jest/globals'
import { ROOT, TestSystem } from './system.js'

const MIB = 1024 ** 2
const BYTES = 1024 * MIB
const GROWTH_MAX_MIB = 64

let system: TestSystem
beforeAll(async () => {
  system = await TestSystem.start()
}, 180_000)
afterAll(() => system?.stop(), 60_000)

/** Resident memory of each service in bytes. */
function residentBytes(): Map<string, number> {
  const services = system.system.services().filter(({ name }) => !/^(postgres|nats)/.test(name))
  return new Map(
    services.map(({ name, pid }) => {
      const kib = /^VmRSS:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1]
      return [name, Number(kib) * 1024]
    }),
  )
}

test('1 GiB of output is byte-exact for its reader and grows no service by more than 64 MiB', async () => {
  const id = await system.ok('create', '--memory', '512m', '--timeout', '10m')
  const program = `yes 0123456789abcdef0123456789abcdef | head -c ${BYTES}`
  // Once before, so that buffers and compiled code are in the first figure too.
  await system.ok('exec', id, '--', 'sh', '-c', 'yes | head -c 10000000 > /dev/null; echo warm')
  const before = residentBytes()
  const peak = new Map(before)
  const sampling = setInterval(() => {
    for (const [name, bytes] of residentBytes()) peak.set(name, Math.max(peak.get(name) ?? 0, bytes))
  }, 200)

  const child = spawn(join(ROOT, 'bin', 'sandtrail'), ['exec', id, '--', 'sh', '-c', program], {
    env: { ...process.env, ...system.env },
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  const [hash, wanted] = [createHash('sha256'), createHash('sha256')]
  let bytes = 0
  for await (const chunk of child.stdout) {
    hash.update(chunk)
    bytes += chunk.length
  }
  clearInterval(sampling)
  const block = Buffer.from('0123456789abcdef0123456789abcdef\n'.repeat(32_768))
  for (let left = BYTES; left > 0; left -= block.length)
    wanted.update(block.subarray(0, Math.min(left, block.length)))
  expect(bytes).toBe(BYTES)
  expect(hash.digest('hex')).toBe(wanted.digest('hex'))
  for (const [name, bytesBefore] of before) {
    const grownMiB = Math.floor((peak.get(name)! - bytesBefore) / MIB)
    if (grownMiB > GROWTH_MAX_MIB) throw new Error(`${name} grew by ${grownMiB} MiB`)
  }
  await system.ok('rm', id)
}, 300_000)
