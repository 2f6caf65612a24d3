/** What one statement of the product does in the model. */

import type { Postgres, Result } from '../server.js'
import type { Transaction } from '../tables.js'

export interface Call {
  server: Postgres
  tx: Transaction
  values: readonly unknown[]
}

export type Statement = (call: Call) => Result
/** A part of the statement's text that no other has. */
export type Statements = [RegExp, Statement][]

export const result = (rows: object[], rowCount = rows.length): Result => ({ rows, rowCount })
