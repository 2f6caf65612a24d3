import type { MigrationInterface, QueryRunner } from 'typeorm'

/** Released history is never dropped by a migration: what has to go is taken away by a newer, forward one. */
export abstract class ForwardOnly implements MigrationInterface {
  /** The class name is kept by the runner; its last 13 digits are the order. */
  abstract readonly name: string
  protected abstract readonly sql: string

  async up(runner: QueryRunner): Promise<void> {
    await runner.query(this.sql)
  }

  async down(): Promise<void> {
    throw new Error(`${this.name} cannot be undone: write a newer migration instead`)
  }
}
