/** /v1/images: upload and import, list, look, remove; and the blobs that workers fetch by signed URLs. */

import { pipeline } from 'node:stream/promises'
import { Controller, Delete, Get, Param, Post, Req, Res } from '@nestjs/common'
import type { Request, Response } from 'express'
import { imageImport, parseBody } from '#libs/contract'
import { PLATFORM_TENANT, Rejected } from '#libs/domain'
import { verifyBlobUrl } from '#libs/storage'
import { type Origin, sendCommand } from '../commands.js'
import { Gateway } from '../gateway.js'
import { importImage, readImage, uploadBlob } from '../images.js'
import { readFromService } from '../service-reads.js'
import { denied, Public, principalOf, requireOperator } from './auth.js'
import { goneSignal, originOf, readQuery, requireBytes } from './input.js'
import { IMPORT_QUERY, SHARED_QUERY } from './queries.js'

@Controller('v1')
export class ImagesController {
  constructor(private readonly gateway: Gateway) {}

  /** A tarball as the body and `?name=`, or JSON `{name, sha256}` of one that was uploaded before. */
  @Post('images')
  async import(@Req() request: Request, @Res({ passthrough: true }) response: Response) {
    const { name, shared } = readQuery(request, IMPORT_QUERY)
    const origin = this.originOf(request, shared)
    const signal = goneSignal(response)
    if (request.is('application/json')) {
      return await importImage(this.gateway, origin, parseBody(imageImport, request.body), signal)
    }
    requireBytes(request)
    if (name === undefined) throw new Rejected('INVALID_ARGUMENT', 'name: the image needs a name')
    const { sha256 } = await uploadBlob(this.gateway, origin.tenant, request)
    return await importImage(this.gateway, origin, { name, sha256 }, signal)
  }

  @Get('images')
  async list(@Req() request: Request) {
    return await readFromService(this.gateway.messaging, principalOf(request).tenant, 'image', 'list')
  }

  @Get('images/:image')
  async get(@Req() request: Request, @Param('image') reference: string) {
    return await readImage(this.gateway.db, principalOf(request).tenant, reference)
  }

  @Delete('images/:image')
  async remove(@Req() request: Request, @Param('image') image: string) {
    const { shared } = readQuery(request, SHARED_QUERY)
    const origin = this.originOf(request, shared)
    return (await sendCommand(this.gateway.messaging, origin, 'image.remove', { image })).accepted
  }

  /** A shared image is the platform's, which has no tokens: its operators act for it. */
  private originOf(request: Request, shared: boolean): Origin {
    if (!shared) return originOf(request)
    requireOperator(this.gateway.gate, request)
    return { ...originOf(request), tenant: PLATFORM_TENANT }
  }

  /** For workers: the signature in the URL is the permission. */
  @Get('blobs/:sha256')
  @Public()
  async blob(@Req() request: Request, @Param('sha256') sha256: string, @Res() response: Response) {
    if (!verifyBlobUrl(sha256, request.query, this.gateway.blobKey)) {
      throw denied(this.gateway.gate, request, 'the URL is not signed, or its time is over')
    }
    const blob = await this.gateway.blobs.open(sha256)
    response.setHeader('Content-Type', 'application/octet-stream')
    response.setHeader('Content-Length', String(blob.bytes))
    try {
      await pipeline(blob.stream, response)
    } catch {
      response.destroy()
    }
  }
}
