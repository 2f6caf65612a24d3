/** What the parts of the gateway share; made once at the start. A class, so that Nest can hand it in by its type. */

import type { KeyObject } from 'node:crypto'
import type { Database, Sealer } from '#libs/event-store'
import type { Messaging } from '#libs/messaging'
import type { Log } from '#libs/service'
import type { FileBlobStore } from '#libs/storage'
import type { TenantGate } from '#libs/tenancy'
import type { ServerCertificate } from '#libs/tls'
import type { DataPlane } from './data-plane/client.js'
import type { StreamWaiter } from './stream-waiter.js'

/** What goes over the network, and what proves who is who: for `doctor`. */
export interface Encryption {
  /** Where HTTP listens. */
  httpHost: string
  /** null: HTTP is in plaintext. */
  certificate: ServerCertificate | null
  natsUrl: string
  databaseUrl: string
  /** Files that nobody else may read. */
  secretFiles: string[]
}

export interface GatewayParts {
  db: Database
  messaging: Messaging
  waiter: StreamWaiter
  dataPlane: DataPlane
  gate: TenantGate
  blobs: FileBlobStore
  /** Seals callers' secrets. */
  sealer: Sealer
  /** Signs what clients show at the data plane and at the command router. */
  dataPlaneKey: KeyObject
  /** How workers reach the gateway. */
  publicUrl: string
  /** PEM of the authority of the installation's certificates; undefined: the system's. */
  ca: string | undefined
  encryption: Encryption
  /** How long a blob that no image needs is kept. */
  blobKeepMs: number
  /** Signs the URLs under which workers fetch blobs. */
  blobKey: Buffer
  /** null: `verify` is refused here. */
  trail: { file: string; publicKey: string; databaseUrl: string } | null
  log: Log
}

export class Gateway implements GatewayParts {
  readonly db: Database
  readonly messaging: Messaging
  readonly waiter: StreamWaiter
  readonly dataPlane: DataPlane
  readonly gate: TenantGate
  readonly blobs: FileBlobStore
  readonly sealer: Sealer
  readonly dataPlaneKey: KeyObject
  readonly publicUrl: string
  readonly ca: string | undefined
  readonly encryption: Encryption
  readonly blobKeepMs: number
  readonly blobKey: Buffer
  readonly trail: GatewayParts['trail']
  readonly log: Log

  constructor(parts: GatewayParts) {
    this.db = parts.db
    this.messaging = parts.messaging
    this.waiter = parts.waiter
    this.dataPlane = parts.dataPlane
    this.gate = parts.gate
    this.blobs = parts.blobs
    this.sealer = parts.sealer
    this.dataPlaneKey = parts.dataPlaneKey
    this.publicUrl = parts.publicUrl
    this.ca = parts.ca
    this.encryption = parts.encryption
    this.blobKeepMs = parts.blobKeepMs
    this.blobKey = parts.blobKey
    this.trail = parts.trail
    this.log = parts.log
  }
}
