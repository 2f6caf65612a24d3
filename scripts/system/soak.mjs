/** A life again and again on a private system, with what should stay flat printed beside it. */
import { readFileSync } from 'node:fs'
import { cli } from './first-use.mjs'
import { inventory } from './inventory.mjs'
import { startSystem } from './system.mjs'

const REPORT_MS = 10_000

/** @param {number} seconds @param {(line: string) => void} say */
export async function soak(seconds, say) {
  const system = await startSystem({ say: (line) => say(`starting ${line}`) })
  try {
    await cli(system.env, 'volume', 'create', 'soak')
    const before = (await inventory({ id: system.id })).length
    const end = performance.now() + seconds * 1000
    let nextReport = 0
    for (let lives = 1; performance.now() < end; lives++) {
      const said = await cli(
        system.env,
        'run',
        '--volume',
        'soak:/data',
        '--',
        'sh',
        '-c',
        `echo ${lives} | tee /data/n`,
      )
      if (said !== `${lives}\n`) throw new Error(`life ${lives} printed ${JSON.stringify(said)}`)
      if (performance.now() < nextReport) continue
      nextReport = performance.now() + REPORT_MS
      say(`${lives} lives; resident MiB: ${memory(system)}`)
    }
    await cli(system.env, 'verify')
    say(
      `verified; things on the host: ${before} before, ${(await inventory({ id: system.id })).length} after`,
    )
  } finally {
    await system.stop()
  }
}

/** @param {import('./system.mjs').System} system */
function memory(system) {
  const sizes = system.services().map(({ name, pid }) => {
    const [, kib = '0'] = /VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, 'utf8')) ?? []
    return `${name} ${Math.round(Number(kib) / 1024)}`
  })
  return sizes.join(', ')
}
