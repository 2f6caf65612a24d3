/** The bytes at an offset are gone: the answer tells which is the oldest one kept, so that the reader can go on. */

import { Rejected } from '#libs/domain'

export class OutputDropped extends Rejected {
  constructor(
    message: string,
    readonly firstOffset: number,
  ) {
    super('OUTPUT_DROPPED', message, { hint: `read from offset ${firstOffset} on` })
  }
}
