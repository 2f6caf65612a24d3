/** Values of options as people write them: 5m, 256m, 0.5, K=V, NAME:/path:ro. Pure. */

import { usage } from './failure.js'

const DURATION_MS = { ms: 1, s: 1_000, m: 60_000, h: 3_600_000, d: 86_400_000 } as const
const SIZE_BYTES = { b: 1, k: 1024, m: 1024 ** 2, g: 1024 ** 3, t: 1024 ** 4 } as const

/** `30s`, `5m`, `1h`, `1h30m`, or plain seconds. Milliseconds. */
export function parseDuration(text: string): number {
  if (/^\d+(\.\d+)?$/.test(text)) return Math.round(Number(text) * 1_000)
  const parts = [...text.matchAll(/(\d+(?:\.\d+)?)(ms|s|m|h|d)/g)]
  const whole = parts.map(([part]) => part).join('')
  if (parts.length === 0 || whole !== text) {
    throw usage(`${JSON.stringify(text)} is not a duration`, 'write it like 30s, 5m, 1h or 1h30m')
  }
  const units = parts.map(([, count, unit]) => Number(count) * DURATION_MS[unit as keyof typeof DURATION_MS])
  return Math.round(units.reduce((sum, ms) => sum + ms, 0))
}

/** `256m`, `1g`, `512MiB`, `256Mi`, or plain bytes. Units are powers of 1024, as docker's. */
export function parseSize(text: string): number {
  const [, count, unit] = /^(\d+(?:\.\d+)?)(?:([bkmgt])i?b?)?$/i.exec(text) ?? []
  if (count === undefined) {
    throw usage(`${JSON.stringify(text)} is not a size`, 'write it like 256m or 1g')
  }
  const factor = SIZE_BYTES[(unit ?? 'b').toLowerCase() as keyof typeof SIZE_BYTES]
  return Math.round(Number(count) * factor)
}

/** Cores, `0.5` or `2`, as thousandths. */
export function parseCpu(text: string): number {
  const millis = Math.round(Number(text) * 1_000)
  if (/^\d+(\.\d+)?$/.test(text) && millis >= 1) return millis
  throw usage(`${JSON.stringify(text)} is not a number of cores`, 'write it like 0.5 or 2')
}

/** A whole number. */
export function parseCount(text: string): number {
  if (/^\d{1,10}$/.test(text)) return Number(text)
  throw usage(`${JSON.stringify(text)} is not a whole number`)
}

/** As `parse`, and `none` for no limit. Not null: commander makes an empty text of that. */
export function unlimited(parse: (text: string) => number): (text: string) => number | 'none' {
  return (text) => (text === 'none' ? text : parse(text))
}

/** `K=V`; `K` alone takes the value of this environment, and nothing where there is none. */
export function parseEnv(texts: readonly string[], environment: NodeJS.ProcessEnv): Record<string, string> {
  const env: Record<string, string> = {}
  for (const text of texts) {
    const at = text.indexOf('=')
    const key = at === -1 ? text : text.slice(0, at)
    if (!/^[A-Za-z_][A-Za-z0-9_]*$/.test(key)) {
      throw usage(`${JSON.stringify(key)} is not a name of an environment variable`)
    }
    const value = at === -1 ? environment[key] : text.slice(at + 1)
    if (value !== undefined) env[key] = value
  }
  return env
}

export function parseTags(texts: readonly string[]): Record<string, string> {
  return Object.fromEntries(
    texts.map((text) => {
      const at = text.indexOf('=')
      if (at < 1) throw usage(`${JSON.stringify(text)} is not a tag`, 'write it like KEY=VALUE')
      return [text.slice(0, at), text.slice(at + 1)]
    }),
  )
}

export interface VolumeOption {
  volume: string
  path: string
  readOnly: boolean
  version: number | null
}

/** `NAME:/path`, `NAME:/path:ro`, `NAME@VERSION:/path:ro`. */
export function parseVolume(text: string): VolumeOption {
  const form = /^([^:@]+)(?:@(\d{1,9}))?:(\/[^:]*)(?::(ro|rw))?$/.exec(text)
  if (form === null) {
    throw usage(
      `${JSON.stringify(text)} is not a volume`,
      'write it like NAME:/path, NAME:/path:ro or NAME@3:/path:ro',
    )
  }
  const [, volume, version, path, mode] = form
  if (version !== undefined && mode !== 'ro') {
    throw usage(`${JSON.stringify(text)} would change an older version`, 'mount a version read-only: add :ro')
  }
  return {
    volume: volume!,
    path: path!,
    readOnly: mode === 'ro',
    version: version === undefined ? null : Number(version),
  }
}

/** RFC 3339, or how long ago: `90s`, `2h`. RFC 3339 in UTC. */
export function parseMoment(text: string, now: Date): string {
  if (/^\d{4}-\d{2}-\d{2}/.test(text)) {
    const time = new Date(text)
    if (!Number.isNaN(time.getTime())) return time.toISOString()
  } else if (/^\d+(\.\d+)?(ms|s|m|h|d)/.test(text)) {
    return new Date(now.getTime() - parseDuration(text)).toISOString()
  }
  throw usage(
    `${JSON.stringify(text)} is not a time`,
    'write it like 2026-01-31T12:00:00Z, or 2h for two hours ago',
  )
}
