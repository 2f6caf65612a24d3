/** The snapshotter's commands by name: one path for `req.`, where the caller waits for the answer, and `cmd.`. */

import type { z } from 'zod'
import { type Command, toCommand } from '#libs/command-handling'
import { type Accepted, COMMANDS } from '#libs/contract'
import { Rejected } from '#libs/domain'
import type { MessageContext } from '#libs/messaging'
import { HASH_KEY, type Snapshotter } from './context.js'
import { createSnapshot } from './create-snapshot.js'
import { importImage } from './import-image.js'
import { removeImage } from './remove-image.js'

interface Entry<S extends z.ZodType> {
  schema: S
  run(snapshotter: Snapshotter, command: Command<z.output<S>>): Promise<Accepted>
}
const entry = <S extends z.ZodType>(schema: S, run: Entry<S>['run']): Entry<z.ZodType> =>
  ({ schema, run }) as Entry<z.ZodType>

const ENTRIES: Record<string, Entry<z.ZodType>> = {
  'image.import': entry(COMMANDS['image.import'], importImage),
  'image.remove': entry(COMMANDS['image.remove'], removeImage),
  'snapshot.create': entry(COMMANDS['snapshot.create'], createSnapshot),
}

/**
 * Resolves after the commit, or with the first outcome for a re-send; the work itself goes on after it.
 *
 * @throws Rejected, SandtrailError as docs/errors.md lists them
 */
export async function runCommand(
  snapshotter: Snapshotter,
  name: string,
  body: unknown,
  context: Pick<MessageContext, 'tenant' | 'commandId' | 'expiresAt' | 'actor' | 'traceparent'>,
): Promise<Accepted> {
  const startedMs = performance.now()
  const found = Object.hasOwn(ENTRIES, name) ? ENTRIES[name] : undefined
  if (!found) throw new Rejected('INVALID_ARGUMENT', `there is no command ${name}`)
  const accepted = await found.run(snapshotter, toCommand(found.schema, name, context, body, HASH_KEY))
  const { commandId, stream } = accepted
  const tookMs = Math.round(performance.now() - startedMs)
  snapshotter.log.info(
    { command: name, tenant: context.tenant, commandId, stream, tookMs },
    'command accepted',
  )
  return accepted
}
