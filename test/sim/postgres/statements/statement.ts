/** What one statement of the product does in the model. */

import type { Postgres, Result } from '../server.js'
import type { Transaction } from '../tables.js'

export interface Call {
  server: Postgres
  tx: Transaction
  values: readonly unknown[]
}

export type Statement = (call: Call) => Result
/** What an append is given: `p` of migrations/330-append.ts. */
// biome-ignore lint/suspicious/noExplicitAny: JSON of many forms.
export type Group = Record<string, any> & { tenant: string }
/** A part of an append: null, or why the group is refused. */
export type Step = (call: Call, group: Group) => object | null

/** A part of the statement's text that no other has. */
export type Statements = [RegExp, Statement][]

export const result = (rows: object[], rowCount = rows.length): Result => ({ rows, rowCount })
