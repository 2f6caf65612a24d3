import { Api } from '../api.js'
import { chooseFormat, type Format, plain, printJson, printLine } from '../print.js'

interface Report {
  dryRun: boolean
  commands: { rows: number }
  blobs: { count: number; bytes: number }
  workers: { workerId: string; execs: number; bytes: number; tombstones: number; error: string | null }[]
}

export async function prune(flags: { dryRun?: boolean; output?: Format }): Promise<void> {
  const format = chooseFormat(flags.output)
  const api = Api.fromEnvironment()
  const report = await api.json<Report>('POST', '/v1/prune', { json: { dryRun: flags.dryRun === true } })
  api.close()
  if (format === 'json') return printJson(report)
  const verb = report.dryRun ? 'would remove' : 'removed'
  printLine(`${verb} ${report.commands.rows} outcomes of expired commands (their events stay)`)
  printLine(`${verb} ${report.blobs.count} blobs, ${mib(report.blobs.bytes)}`)
  for (const { workerId, execs, bytes, tombstones, error } of report.workers) {
    const what = `the output of ${execs} execs, ${mib(bytes)}, and ${tombstones} tombstones`
    printLine(error === null ? `${verb} ${what} on ${workerId}` : `${workerId}: ${plain(error)}`)
  }
}

function mib(bytes: number): string {
  return `${(bytes / 1024 ** 2).toFixed(1)} MiB`
}
