import { randomBytes } from 'node:crypto'
import { type Id, makeId } from '#libs/domain'

export function newId<P extends string>(prefix: P): Id<P> {
  return makeId(prefix, Date.now(), randomBytes(10))
}
