import { createReadStream } from 'node:fs'
import { stat } from 'node:fs/promises'
import { Api, path } from '../api.js'
import { ago, chooseFormat, type Format, printJson, printLine, printTable, progress } from '../print.js'
import type { Image } from '../types.js'

/** Uploads the tarball and waits until sandboxes can start from it. */
export async function importImage(
  file: string,
  flags: { name: string; shared?: boolean; output?: Format },
): Promise<void> {
  if (flags.output !== undefined) chooseFormat(flags.output)
  const api = Api.fromEnvironment()
  const fromStdin = file === '-'
  // Asked before the upload begins: a file that is not there has a better error than a broken request.
  const size = fromStdin ? null : (await stat(file)).size
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
    ['IMAGE', 'NAME', 'STATE', 'SHARED', 'DIGEST', 'CREATED'],
    images.map((image) => [
      image.imageId,
      image.name ?? '-',
      image.state,
      image.shared ? 'yes' : '-',
      image.digest?.slice(0, 'sha256:'.length + 12) ?? '-',
      ago(image.createdAt, now),
    ]),
  )
}

export async function removeImage(reference: string, { shared }: { shared?: boolean }): Promise<void> {
  const api = Api.fromEnvironment()
  await api.json('DELETE', path`/v1/images/${reference}`, { query: { shared }, command: true })
  printLine(reference)
  api.close()
}
