/** Makes one of each thing that a system may leave on a host, prints its id, and waits for a signal. */
import { mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { listMounts } from '../../scripts/system/host.mjs'
import { mountPool } from '../../scripts/system/pool.mjs'
import { launch } from '../../scripts/system/processes.mjs'
import { createPrivateDir, systemId } from '../../scripts/system/state.mjs'
import { destroyOwnedOnSignals } from '../../scripts/system/sweep.mjs'
import { sh } from '../../scripts/system/tools.mjs'

destroyOwnedOnSignals()
const dir = createPrivateDir()
const id = systemId(dir)
const cgroup = listMounts().find(({ type, point }) => type === 'cgroup2' || point.endsWith('/pids'))?.point ?? ''

// A shell that ignores SIGTERM, with a child of its own that has no record.
const script = 'trap "" TERM; sleep 1000 & echo $$ > "$0"/cgroup.procs; wait; sleep 1000'
mkdirSync(join(cgroup, `sandtrail-${id}01`, 'sb-1'), { recursive: true })
launch(dir, {
  name: 'stubborn',
  command: 'sh',
  args: ['-c', script, join(cgroup, `sandtrail-${id}01`, 'sb-1')],
  log: join(dir, 'stubborn.log'),
})
await mountPool(dir, '1')
await sh('ip', ['netns', 'add', `st-${id}01-0`])
await sh('ip', ['link', 'add', `st-${id}01`, 'type', 'veth', 'peer', 'name', `st-${id}01p`])
await sh('nft', ['add', 'table', 'inet', `sandtrail-${id}01`])

console.log(id)
setInterval(() => {}, 1_000_000)
