import { createReadStream } from 'node:fs'
import { stat } from 'node:fs/promises'
import { Rejected } from '#libs/domain'
import { Api, path } from '../api.js'
import { usage } from '../failure.js'
import { ago, chooseFormat, type Format, note, printJson, printLine, printTable, progress } from '../print.js'
import type { Image } from '../types.js'

/** What a create that names no image starts from. */
const IMAGE_DEFAULT = 'base:latest'

/** Uploads the tarball and waits until sandboxes can start from it. */
export async function importImage(
  file: string,
  flags: { name: string; shared?: boolean; output?: Format },
): Promise<void> {
  if (flags.output !== undefined) chooseFormat(flags.output)
  const api = Api.fromEnvironment()
  const fromStdin = file === '-'
  // Asked before the upload begins: a file that is not there has a better error than a broken request.
  const size = fromStdin ? null : await sizeOf(file)
  progress(`uploading ${fromStdin ? 'stdin' : `${file} (${Math.ceil((size ?? 0) / 1024 ** 2)} MiB)`}`)
  const image = await api.json<Image>('POST', '/v1/images', {
    query: { name: flags.name, shared: flags.shared },
    bytes: fromStdin ? process.stdin : createReadStream(file, { highWaterMark: 1024 ** 2 }),
    command: true,
  })
  if (flags.output === 'json') printJson(image)
  else printLine(image.imageId)
  api.close()
}

/** Bytes. @throws Rejected NOT_FOUND, INVALID_ARGUMENT */
async function sizeOf(file: string): Promise<number> {
  const found = await stat(file).catch(() => null)
  if (found === null) throw new Rejected('NOT_FOUND', `there is no file ${file} here`)
  if (found.isDirectory()) {
    throw usage(
      `${file} is a directory`,
      `make a tarball of it: tar -C ${file} -c . | sandtrail image import - …`,
    )
  }
  return found.size
}

export async function listImages(flags: { output?: Format }): Promise<void> {
  const format = chooseFormat(flags.output)
  const api = Api.fromEnvironment()
  const { images } = await api.json<{ images: Image[] }>('GET', '/v1/images')
  api.close()
  if (format === 'json') {
    printJson(images)
    return
  }
  const now = new Date()
  printTable(
    ['IMAGE', 'NAME', 'STATE', 'SHARED', 'SNAPSHOT', 'DIGEST', 'CREATED'],
    images.map((image) => [
      image.imageId,
      image.name ?? '-',
      image.state,
      image.shared ? 'yes' : '-',
      image.source.snapshotId ?? '-',
      image.digest?.slice(0, 'sha256:'.length + 12) ?? '-',
      ago(image.createdAt, now),
    ]),
  )
}

export async function removeImage(reference: string, { shared }: { shared?: boolean }): Promise<void> {
  const api = Api.fromEnvironment()
  await api.json('DELETE', path`/v1/images/${reference}`, { query: { shared }, command: true })
  printLine(reference)
  if (reference === IMAGE_DEFAULT) await warnOfDefault(api)
  api.close()
}

/** A tenant's own may have stood before the platform's, which then is the default again. */
async function warnOfDefault(api: Api): Promise<void> {
  try {
    await api.json('GET', path`/v1/images/${IMAGE_DEFAULT}`)
  } catch (error) {
    if (!(error instanceof Rejected) || error.code !== 'IMAGE_NOT_FOUND') throw error
    note(
      `sandtrail: sandboxes start from ${IMAGE_DEFAULT} by default: until it is imported again, name an --image`,
    )
    note(
      '  to do: `make up` imports it on its host, else `sandtrail image import FILE --name base:latest --shared`',
    )
  }
}
