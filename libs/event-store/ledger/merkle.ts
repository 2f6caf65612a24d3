/** The Merkle tree of RFC 6962, as its frontier: the roots of the full subtrees that a log of this size consists of. */

import { createHash } from 'node:crypto'

const LEAF = Buffer.from([0])
const NODE = Buffer.from([1])

export class MerkleFrontier {
  /** `roots`: largest subtree first, one per set bit of `size`. */
  constructor(
    private leaves = 0,
    private subtrees: Buffer[] = [],
  ) {}

  get size(): number {
    return this.leaves
  }

  /** A copy, to be kept beside a checkpoint. */
  get roots(): Buffer[] {
    return [...this.subtrees]
  }

  append(entry: Buffer | string): void {
    let node: Buffer = createHash('sha256').update(LEAF).update(entry).digest()
    // Two subtrees of one height become one of the next: as many times as the old size has ones at its end.
    for (let rest = this.leaves; rest % 2 === 1; rest = (rest - 1) / 2) {
      node = nodeHash(this.subtrees.pop() as Buffer, node)
    }
    this.subtrees.push(node)
    this.leaves += 1
  }

  /** The root hash, 32 bytes; of no leaves it is the hash of nothing. */
  root(): Buffer {
    const [last, ...larger] = [...this.subtrees].reverse()
    if (last === undefined) return createHash('sha256').digest()
    return larger.reduce((right, left) => nodeHash(left, right), last)
  }
}

function nodeHash(left: Buffer, right: Buffer): Buffer {
  return createHash('sha256').update(NODE).update(left).update(right).digest()
}
