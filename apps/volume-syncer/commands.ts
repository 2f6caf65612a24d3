/** The volume-syncer's commands by name. */

import { CommandTable } from '#libs/command-handling'
import { COMMANDS } from '#libs/contract'
import { commitVolume } from './commit-volume.js'
import type { VolumeSyncer } from './context.js'
import { createVolume } from './create-volume.js'
import { reloadVolume } from './reload-volume.js'
import { removeVolume } from './remove-volume.js'

export const commands = new CommandTable<VolumeSyncer>()
  .add('volume.create', COMMANDS['volume.create'], createVolume)
  .add('volume.commit', COMMANDS['volume.commit'], commitVolume)
  .add('volume.reload', COMMANDS['volume.reload'], reloadVolume)
  .add('volume.remove', COMMANDS['volume.remove'], removeVolume)
