/** The output on the workers' disks against the exits in the log: every byte is there or counted as dropped (I-3, I-10). */

import { createHash } from 'node:crypto'
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import type { ExecEvent, OutputSummary } from '#libs/domain'
import { type Finding, finding } from './finding.js'
import type { LoggedEvent } from './log.js'

/** @param spools of every worker: `<state>/spool/<sandbox>/<exec>/{stdout,stderr}.<offset of the first byte>` */
export function judgeSpools(events: readonly LoggedEvent[], spools: readonly string[]): Finding[] {
  const sandboxOf = new Map<string, string>()
  const findings: Finding[] = []
  for (const event of events) {
    if (event.type === 'ExecRequested')
      sandboxOf.set(event.stream, (event.data.spec as { sandboxId: string }).sandboxId)
    if (event.type !== 'ExecExited') continue
    const exit = event.data as unknown as Extract<ExecEvent, { type: 'ExecExited' }>['data']
    const sandboxId = sandboxOf.get(event.stream) ?? ''
    const dir = spools.map((spool) => join(spool, sandboxId, event.stream)).find((path) => existsSync(path))
    for (const name of ['stdout', 'stderr'] as const) {
      const problem = compare(exit[name], dir, name)
      if (problem) findings.push(finding(problem.verdict, 'I-10', event, `${name}: ${problem.message}`))
    }
  }
  return findings
}

function compare(told: OutputSummary, dir: string | undefined, name: string) {
  const { first, bytes, sha256 } = read(dir, name)
  const kept = told.bytes - told.droppedBytes
  const end = first + bytes
  if (bytes < kept)
    return { verdict: 'lost' as const, message: `${bytes} bytes are kept, the log says ${kept}` }
  if (end > told.bytes)
    return { verdict: 'phantom' as const, message: `${end} bytes were written, the log says ${told.bytes}` }
  if (told.droppedBytes === 0 && sha256 !== told.sha256) {
    return {
      verdict: 'phantom' as const,
      message: `what is kept has the digest ${sha256}, the log says ${told.sha256}`,
    }
  }
  return null
}

function read(dir: string | undefined, name: string): { first: number; bytes: number; sha256: string } {
  const starts = (dir === undefined ? [] : readdirSync(dir))
    .map((file) => (file.startsWith(`${name}.`) ? file.slice(name.length + 1) : ''))
    .filter((suffix) => /^\d+$/.test(suffix))
    .map(Number)
    .sort((a, b) => a - b)
  const hash = createHash('sha256')
  let bytes = 0
  for (const start of starts) {
    const data = readFileSync(join(dir!, `${name}.${start}`))
    hash.update(data)
    bytes += data.length
  }
  return { first: starts[0] ?? 0, bytes, sha256: hash.digest('hex') }
}
