/** The snapshotter's commands by name; each answers after its commit, the work itself goes on after it. */

import { CommandTable } from '#libs/command-handling'
import { COMMANDS } from '#libs/contract'
import type { Snapshotter } from './context.js'
import { createSnapshot } from './create-snapshot.js'
import { importImage } from './import-image.js'
import { removeImage } from './remove-image.js'

export const commands = new CommandTable<Snapshotter>()
  .add('image.import', COMMANDS['image.import'], importImage)
  .add('image.remove', COMMANDS['image.remove'], removeImage)
  .add('snapshot.create', COMMANDS['snapshot.create'], createSnapshot)
