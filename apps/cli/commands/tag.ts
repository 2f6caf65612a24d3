import { Api, path } from '../api.js'
import { parseTags } from '../options.js'
import { printLine } from '../print.js'

/** Replaces all tags. Prints the id. */
export async function tag(reference: string, texts: string[]): Promise<void> {
  await put(path`/v1/sandboxes/${reference}/tags`, { tags: parseTags(texts) })
}

/** Prints the id. */
export async function name(reference: string, wanted: string): Promise<void> {
  await put(path`/v1/sandboxes/${reference}/name`, { name: wanted })
}

async function put(to: string, json: object): Promise<void> {
  const api = Api.fromEnvironment()
  const { sandboxId } = await api.json<{ sandboxId: string }>('PUT', to, { json, command: true })
  printLine(sandboxId)
  api.close()
}
