import { Api } from '../api.js'
import { Exit, usage } from '../failure.js'
import { ago, chooseFormat, type Format, note, plain, printJson, printLine } from '../print.js'

interface Flags {
  databaseUrl?: string
  trailFile?: string
  publicKey?: string
  output?: Format
}

interface Problem {
  kind: string
  stream: string | null
  version: number | null
  position: number | null
  message: string
}

interface Report {
  ok: boolean
  events: number
  streams: number
  checkpoints: number
  problems: Problem[]
  /** Newer than the newest checkpoint. */
  unprotectedTail: { events: number; fromPosition: number | null; oldestAt: string | null }
  notProved: string[]
}

const FAILED = 8

/** @throws Exit 8 when the trail was changed */
export async function verify(stream: string | undefined, flags: Flags): Promise<void> {
  const format = chooseFormat(flags.output)
  const report = isOffline(flags) ? await verifyOffline(flags, stream) : await verifyOnline(stream)
  if (format === 'json') {
    printJson(report)
    for (const problem of report.problems) note(problemLine(problem))
  } else {
    show(report)
  }
  if (!report.ok) throw new Exit(FAILED)
}

function isOffline({ databaseUrl, trailFile, publicKey }: Flags): boolean {
  const given = [databaseUrl, trailFile, publicKey].filter((value) => value !== undefined).length
  if (given !== 0 && given !== 3) {
    throw usage(
      'offline, verify needs the database, the trail file and the public key',
      'give all three, or none',
    )
  }
  return given === 3
}

async function verifyOnline(stream: string | undefined): Promise<Report> {
  const api = Api.fromEnvironment()
  const report = await api.json<Report>('GET', '/v1/verify', { query: { stream } })
  api.close()
  return report
}

/** Without any service: an auditor needs not trust what is audited. */
async function verifyOffline(flags: Flags, stream: string | undefined): Promise<Report> {
  const { verifyOffline: check } = await import('./verify-offline.js')
  return (await check({ ...(flags as Required<Flags>), stream })) as unknown as Report
}

function problemLine({ kind, stream, version, position, message }: Problem): string {
  const where = [
    stream,
    version === null ? null : `version ${version}`,
    position === null ? null : `position ${position}`,
  ]
  return plain(`${kind}: ${where.filter((part) => part !== null).join(', ')}: ${message}`)
}

function show(report: Report): void {
  for (const problem of report.problems) printLine(problemLine(problem))
  printLine(
    `${report.ok ? 'ok' : `${report.problems.length} problem(s)`}: ${report.events} events in ${report.streams} streams, ${report.checkpoints} checkpoints`,
  )
  printLine(`not protected yet: ${tailLine(report.unprotectedTail)}`)
  for (const text of report.notProved) printLine(plain(`not proved: ${text}`))
}

function tailLine({ events, fromPosition, oldestAt }: Report['unprotectedTail']): string {
  if (events === 0) return 'nothing'
  const from = fromPosition === null ? '' : `, from position ${fromPosition} on`
  const since = oldestAt === null ? '' : `, the oldest ${ago(oldestAt, new Date())}`
  return `${events} events${from}${since}`
}
