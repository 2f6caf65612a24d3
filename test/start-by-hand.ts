/** A service of a system started once more, with changes to its environment, until it ends. */

import { spawn } from 'node:child_process'
import { readFileSync } from 'node:fs'
import type { System } from '../scripts/system/system.mjs'
import { ROOT } from './system.js'

export interface Ended {
  code: number | null
  /** What it logged, parsed; a line that is no JSON as `{ raw }`. */
  lines: { level?: number; code?: string; msg?: string; raw?: string }[]
}

/** `undefined` takes a key away. One that does start is ended after `timeoutMs`: its code is null then. */
export async function startByHand(
  system: System,
  name: string,
  changes: Record<string, string | undefined>,
  timeoutMs = 60_000,
): Promise<Ended> {
  const running = system.services().find((service) => service.name === name)
  if (running === undefined) throw new Error(`no ${name} in this system`)
  // The environment that set-up gave it, with the mark by which the system's end finds it.
  const given = readFileSync(`/proc/${running.pid}/environ`, 'utf8').split('\0').filter(Boolean)
  const env = Object.fromEntries(
    given.map((line) => [line.slice(0, line.indexOf('=')), line.slice(line.indexOf('=') + 1)]),
  )
  const app = { worker: 'runtime-worker' }[name.replace(/-\d+$/, '')] ?? name.replace(/-\d+$/, '')
  const child = spawn(process.execPath, [`dist/apps/${app}/main.js`], {
    cwd: ROOT,
    env: { ...env, SANDTRAIL_METRICS_PORT: '0', SANDTRAIL_READY_FILE: undefined, ...changes },
    stdio: ['ignore', 'pipe', 'pipe'],
    timeout: timeoutMs,
  })
  let said = ''
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding('utf8').on('data', (text) => {
      said += text
    })
  }
  const code = await new Promise<number | null>((resolve, reject) => {
    child.on('error', reject)
    child.on('close', resolve)
  })
  return { code, lines: said.split('\n').filter(Boolean).map(parse) }
}

function parse(line: string): Ended['lines'][number] {
  try {
    return JSON.parse(line)
  } catch {
    return { raw: line }
  }
}
