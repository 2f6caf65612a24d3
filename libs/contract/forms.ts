/** Forms of single values that stand in the messages of several wires. */

import { z } from 'zod'

export const id = (prefix: string) =>
  z.string().regex(new RegExp(`^${prefix}-[0-9A-HJKMNP-TV-Z]{26}$`), `must be an id like ${prefix}-01J…`)

export const sha256 = z.string().regex(/^[0-9a-f]{64}$/, 'must be 64 digits of 0-9 and a-f')
