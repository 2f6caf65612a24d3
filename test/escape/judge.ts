/** Whether a probe got out: by what it brought back, by what it changed, and by who heard from it. */

import { execFileSync } from 'node:child_process'
import { closeSync, constants, openSync, readFileSync, readSync } from 'node:fs'
import { hostname, release, version } from 'node:os'
import { join } from 'node:path'
import type { Minihost } from './minihost.js'

export interface Told {
  probe: string
  told: string
}

export interface Verdict extends Told {
  breach: boolean
}

/** Where the traces of one round of probes would be, beside those on the host that every round has in common. */
export interface Traces {
  /** In everything that a probe writes, says or connects with. */
  tag: string
  ttl: string
  /** On this machine: files that must not have the tag in them. */
  readOnly: readonly string[]
  agent: string
  shared: readonly string[]
  setuid: string
  /** What a neighbour's listener has heard. */
  heard: string
}

/** Allowed, and so no breach: it shows that the network is there at all. */
export const ALLOWED = 'internet'

export function judge(told: readonly Told[], minihost: Minihost, traces: Traces): Verdict[] {
  return told.map((each) => ({ ...each, breach: isBreach(each, minihost, traces) }))
}

function isBreach({ probe, told }: Told, minihost: Minihost, traces: Traces): boolean {
  const { secrets, world } = minihost
  if (Object.values(secrets).some((secret) => told.includes(secret))) return true
  if (told === 'REACHED' || told.startsWith('connected to ')) return true
  const isHeard = [...world.lines, traces.heard].some((line) => line.includes(`${traces.tag} ${probe}\\n`))
  return isHeard || (EVIDENCE[probe]?.(told, minihost, traces) ?? false)
}

const EVIDENCE: Record<string, (told: string, minihost: Minihost, traces: Traces) => boolean> = {
  'write-to-the-host': (_, { dir }, { tag }) => text(join(dir, 'canary')).includes(tag),
  'write-past-read-only': (_told, _host, { readOnly, tag }) =>
    readOnly.some((path) => text(path).includes(tag)),
  'replace-the-agent': (_told, _host, { agent, tag }) => text(agent).includes(tag),
  'write-to-the-shared-image': (_told, _host, { shared, tag }) =>
    shared.some((path) => text(path).includes(tag)),
  'leave-a-setuid-program': (_told, _host, { setuid }) => runAsNobody(setuid).includes('euid=0'),
  'kill-a-process': (_, { mortal }) => !/^State:\s+[RSD]/m.test(text(`/proc/${mortal}/status`)),
  'change-a-cgroup': (_, { cgroupDir }) =>
    text(join(cgroupDir, 'notify_on_release')).trim() === '1' ||
    text(join(cgroupDir, 'cgroup.max.depth')).trim() === '7',
  'change-a-network-sysctl': (_, { world }, { ttl }) =>
    inside(['--net', `/run/netns/${world.hostNetns}`], ['cat', '/proc/sys/net/ipv4/ip_default_ttl']) === ttl,
  'change-the-hostname': (_, { init }, { tag }) =>
    hostname() === tag || inside(['--target', `${init}`, '--uts'], ['hostname']) === tag,
  'read-the-kernel-log': (told) => told.length > 10 && kernelLog().includes(told),
  'tell-the-boot-id': (told) => told.trim() === text('/proc/sys/kernel/random/boot_id').trim(),
  'tell-the-kernel-command-line': (told) => told.trim() === text('/proc/cmdline').trim(),
  'tell-the-kernel': (told) => told === `${release()} ${version()}`,
}

function text(path: string): string {
  try {
    return readFileSync(path, 'latin1')
  } catch {
    return ''
  }
}

/** As a user of this machine who is nobody: what he gets to run of it, and as whom. */
function runAsNobody(path: string): string {
  const user = ['--reuid=65534', '--regid=65534', '--clear-groups']
  try {
    return execFileSync('setpriv', [...user, path], { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] })
  } catch {
    return ''
  }
}

function inside(namespace: [string, string] | string[], argv: string[]): string {
  const [flag = '', value = '', ...more] = namespace
  return execFileSync('nsenter', [`${flag}=${value}`, ...more, ...argv], { encoding: 'utf8' }).trim()
}

function kernelLog(): string {
  const file = openSync('/dev/kmsg', constants.O_RDONLY | constants.O_NONBLOCK)
  const record = Buffer.alloc(8192)
  let all = ''
  try {
    // One record a read; at the end of the log EAGAIN.
    for (;;) all += record.toString('utf8', 0, readSync(file, record))
  } catch {
    return all
  } finally {
    closeSync(file)
  }
}

/** Probe by probe, what each round came to. */
export function table(rounds: Record<string, readonly Verdict[]>): string {
  const names = Object.keys(rounds)
  const probes = [...new Set(Object.values(rounds).flatMap((round) => round.map(({ probe }) => probe)))]
  const cell = (round: string, probe: string) => {
    const verdict = rounds[round]?.find((each) => each.probe === probe)
    if (verdict === undefined) return ''
    if (probe === ALLOWED) return verdict.breach ? 'allowed' : 'UNREACHED'
    return verdict.breach ? 'breach' : 'contained'
  }
  const line = (first: string, cells: string[]) =>
    first.padEnd(42) + cells.map((text) => text.padEnd(22)).join('')
  return [
    line('probe', names),
    ...probes.map((probe) =>
      line(
        probe,
        names.map((name) => cell(name, probe)),
      ),
    ),
  ]
    .map((text) => text.trimEnd())
    .join('\n')
}
