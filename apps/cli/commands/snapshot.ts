import { Api, path } from '../api.js'
import { chooseFormat, type Format, printJson, printLine, progress } from '../print.js'

interface Made {
  snapshotId: string
  imageId: string
  tookMs: number
}

export async function snapshot(sandbox: string, flags: { output?: Format }): Promise<void> {
  if (flags.output !== undefined) chooseFormat(flags.output)
  const api = Api.fromEnvironment()
  const made = await api.json<Made>('POST', path`/v1/sandboxes/${sandbox}/snapshot`, { command: true })
  progress(`image ${made.imageId} in ${made.tookMs} ms`)
  if (flags.output === 'json') printJson(made)
  else printLine(made.snapshotId)
  api.close()
}
