import { Api, path } from '../api.js'
import { ago, chooseFormat, type Format, note, printJson, printLine, printTable } from '../print.js'
import type { Volume } from '../types.js'

interface Flags {
  output?: Format
}

export async function createVolume(name: string): Promise<void> {
  const api = Api.fromEnvironment()
  const made = await api.json<{ volumeId: string }>('POST', '/v1/volumes', { json: { name }, command: true })
  printLine(made.volumeId)
  api.close()
}

export async function listVolumes(flags: Flags): Promise<void> {
  const format = chooseFormat(flags.output)
  const api = Api.fromEnvironment()
  const { volumes } = await api.json<{ volumes: Volume[] }>('GET', '/v1/volumes')
  api.close()
  if (format === 'json') {
    printJson(volumes)
    return
  }
  const now = new Date()
  printTable(
    ['VOLUME', 'NAME', 'VERSION', 'CREATED'],
    volumes.map((volume) => [
      volume.volumeId,
      volume.name,
      String(volume.version),
      ago(volume.createdAt, now),
    ]),
  )
}

export async function listVersions(reference: string, flags: Flags): Promise<void> {
  const format = chooseFormat(flags.output)
  const api = Api.fromEnvironment()
  const volume = await api.json<Volume>('GET', path`/v1/volumes/${reference}`)
  api.close()
  if (format === 'json') {
    printJson(volume)
    return
  }
  printTable(
    ['VERSION', 'TIME', 'SANDBOX', 'BY', 'CHANGED', 'OVERWRITTEN'],
    volume.versions.map((entry) => [
      String(entry.version),
      entry.at,
      entry.sandboxId,
      entry.trigger,
      String(entry.changedPaths),
      String(entry.overwritten.length),
    ]),
  )
}

/** Prints the number of the version that came of it. */
export async function commit(sandbox: string, reference: string, flags: Flags): Promise<void> {
  if (flags.output !== undefined) chooseFormat(flags.output)
  const api = Api.fromEnvironment()
  const made = await api.json<{ version: number; overwritten: string[] }>(
    'POST',
    path`/v1/volumes/${reference}/commit`,
    { json: { sandbox }, command: true },
  )
  api.close()
  if (flags.output === 'json') {
    printJson(made)
    return
  }
  for (const overwritten of made.overwritten) note(`overwritten: ${JSON.stringify(overwritten)}`)
  printLine(String(made.version))
}

export async function reload(sandbox: string, reference: string): Promise<void> {
  const api = Api.fromEnvironment()
  await api.json('POST', path`/v1/volumes/${reference}/reload`, { json: { sandbox }, command: true })
  printLine(reference)
  api.close()
}

export async function removeVolume(reference: string): Promise<void> {
  const api = Api.fromEnvironment()
  await api.json('DELETE', path`/v1/volumes/${reference}`, { command: true })
  printLine(reference)
  api.close()
}
