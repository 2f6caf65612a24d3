/**
 * Images that exist, by the recipes with which the SDKs ask for them: a registry's name resolves to the image that was
 * imported under it, `debian_slim` to the platform's base image. Building layers comes with the snapshotter's builds.
 */

import type { ServiceImpl } from '@connectrpc/connect'
import { type ImageId, imageScopes, isId, Rejected } from '#libs/domain'
import { findClaim } from '#libs/event-store'
import { sendCommand } from '../commands.js'
import type { Gateway } from '../gateway.js'
import { readImage } from '../images.js'
import { callOf, originOf } from './calls.js'
import { unimplemented } from './errors.js'
import {
  GenericResult_GenericStatus as GenericStatus,
  type Image,
  type ImageGetOrCreateRequest,
  type ModalClient,
} from './gen/client_pb.js'

/** What set-up imports: Debian slim with Python 3. */
const BASE_IMAGE = 'base:latest'
const BASE_PYTHON = 'Python 3.11'
const FROM = /^FROM\s+(?:--platform=\S+\s+)?(\S+)$/i
/** `debian_slim` of every builder version begins so; no SDK writes it for anything else. */
const DEBIAN_SLIM = /^python:3\.\d+(\.\d+)?-slim-(bookworm|trixie)$/
const DEBIAN_SLIM_STEPS = [
  /^RUN apt-get update$/,
  /^RUN apt-get install -y gcc gfortran build-essential$/,
  /^RUN pip install --upgrade pip wheel uv$/,
  /^RUN echo 'debconf debconf\/frontend select Noninteractive' \| debconf-set-selections$/,
  /^RUN rm -rf \/var\/lib\/apt\/lists\/\*$/,
  /^CMD \["sleep", ?"172800"\]$/,
]
const NAMES_OF_BASE = 'base'

type Images = Pick<
  ServiceImpl<typeof ModalClient>,
  'imageGetOrCreate' | 'imageFromId' | 'imageGetByTag' | 'imageDelete'
>

export function images(gateway: Gateway): Images {
  const { db } = gateway

  async function findByName(tenant: string, name: string): Promise<ImageId | null> {
    for (const scope of imageScopes(tenant)) {
      const imageId = await findClaim(db, scope, 'image-name', name)
      if (isId('im', imageId)) return imageId
    }
    return null
  }

  async function resolve(tenant: string, { image, existingImageId }: ImageGetOrCreateRequest) {
    if (existingImageId !== '') return await known(tenant, existingImageId)
    if (image === undefined) throw new Rejected('INVALID_ARGUMENT', 'no image is asked for')
    const name = nameOf(image)
    if (name === NAMES_OF_BASE && image.baseImages[0] !== undefined) {
      return await known(tenant, image.baseImages[0].imageId)
    }
    for (const candidate of candidatesFor(name)) {
      const found = await findByName(tenant, candidate)
      if (found !== null) return found
    }
    throw unimplemented(
      `the image ${name}`,
      `nothing is pulled from registries yet; import it under this name: \`sandtrail image import FILE --name ${name}\``,
    )
  }

  /** @throws Rejected NOT_FOUND in the words that the SDKs look for */
  async function known(tenant: string, imageId: string): Promise<string> {
    const missing = new Rejected('NOT_FOUND', `Could not find image with ID '${imageId.slice(0, 64)}'`)
    if (!isId('im', imageId)) throw missing
    const image = await readImage(db, tenant, imageId).catch((error) => {
      throw error instanceof Rejected ? missing : error
    })
    if (image.state !== 'ready') throw missing
    return imageId
  }

  return {
    async imageGetOrCreate(request, context) {
      const imageId = await resolve(callOf(context).tenant, request)
      const metadata = { pythonVersionInfo: BASE_PYTHON, imageBuilderVersion: request.builderVersion }
      return { imageId, result: { status: GenericStatus.SUCCESS }, metadata }
    },
    async imageFromId({ imageId }, context) {
      return { imageId: await known(callOf(context).tenant, imageId), metadata: {} }
    },
    async imageGetByTag({ tag }, context) {
      const { tenant } = callOf(context)
      const imageId = (await findByName(tenant, tag)) ?? (await findByName(tenant, `${tag}:latest`))
      if (imageId !== null) return { imageId }
      throw new Rejected('NOT_FOUND', `Image '${tag.slice(0, 128)}' not found`)
    },
    async imageDelete({ imageId }, context) {
      const call = callOf(context)
      await known(call.tenant, imageId)
      await sendCommand(gateway.messaging, originOf(call, 'image'), 'image.remove', { image: imageId })
      return {}
    },
  }
}

/** The name after FROM of a recipe that asks for nothing but an image. @throws Rejected UNIMPLEMENTED for a build */
function nameOf(image: Image): string {
  if (image.buildFunction !== undefined || image.buildFunctionDef !== '') {
    throw unimplemented('run_function', 'functions are not run here, only sandboxes')
  }
  const lines = image.dockerfileCommands
    .map((line) => line.trim())
    .filter((line) => line !== '' && !line.startsWith('#'))
  const [first = '', ...steps] = lines
  const name = FROM.exec(first)?.[1]
  if (name === undefined)
    throw new Rejected('INVALID_ARGUMENT', 'the first line of an image must be FROM NAME')
  if (DEBIAN_SLIM.test(name) && steps.every((step) => DEBIAN_SLIM_STEPS.some((known) => known.test(step)))) {
    return BASE_IMAGE
  }
  const [step] = steps
  if (step !== undefined || image.contextMountId !== '') {
    throw unimplemented(
      `building an image (${(step ?? 'COPY').slice(0, 60)})`,
      'layers are not built yet; start from an imported image or from a snapshot of a sandbox',
    )
  }
  return name
}

/** As a registry's client would read it: the tag defaults to latest, Docker Hub's host and library need not be said. */
function candidatesFor(name: string): string[] {
  const short = name.replace(/^docker\.io\//, '').replace(/^library\//, '')
  const tagged = /[:@][^/]*$/.test(short) ? short : `${short}:latest`
  return [...new Set([name, short, tagged])]
}
