/** Counts what was really done, by whoever did it, so that the log's word can be held against it. */

import type { SandboxId } from '#libs/domain'
import type { Machine } from './guest.js'
import type { World } from './world.js'

export class Judge {
  /** How often each exec's program was started, anywhere. */
  readonly starts = new Map<string, number>()
  private readonly creations = new Map<string, { where: Machine; bootId: string }>()

  constructor(
    readonly world: World,
    private readonly machines: readonly Machine[],
  ) {}

  /** Once per epoch; and again on the same host when its power was cut before the order was acknowledged. */
  created(sandboxId: SandboxId, epoch: number, where: Machine): void {
    const key = `${sandboxId}/${epoch}`
    const place = this.creations.get(key)
    const isAgain = place !== undefined && (place.where !== where || place.bootId === where.bootId)
    if (isAgain) this.world.violate(`${key} was made on ${place.where.name}, and again on ${where.name}`)
    this.creations.set(key, { where, bootId: where.bootId })
    for (const { name, sandboxes } of this.machines) {
      if (sandboxes.get(sandboxId)?.isAlive)
        this.world.violate(`${sandboxId} is made while it lives on ${name}`)
    }
  }
}
