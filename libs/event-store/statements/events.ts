/** Heads of streams, to build on. */

import type { Queryable } from '../database.js'

const SELECT_HEADS = `
  select h.stream, h.version, h.hash
  from unnest($1::text[]) as s (stream)
  cross join lateral (
    select e.stream, e.version, e.hash
    from events e
    where e.stream = s.stream
    order by e.version desc
    limit 1
  ) h
`

export interface Head {
  stream: string
  version: number
  hash: Buffer
}

/** The newest event of each stream that has one. */
export async function selectHeads(db: Queryable, streams: string[]): Promise<Map<string, Head>> {
  const { rows } = await db.query<Head>({ name: 'select-heads', text: SELECT_HEADS, values: [streams] })
  return new Map(rows.map((head) => [head.stream, head]))
}
