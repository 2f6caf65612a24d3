/**
 * Bugs to plant in the source as it is loaded, one at a time: a simulation that does not find them is decoration
 * (sim.spec.ts). Each must match once, so that it is looked at when its code changes.
 */

/** @type {Record<string, {file: string, find: string, replace: string}>} */
export const MUTATIONS = {
  'an acknowledgement of facts is dropped': {
    file: 'apps/runtime-worker/outbox/outbox.ts',
    find: `journal.appendLater({ kind: 'accepted', to: acceptedTo })`,
    // With a pause, or a run would be nothing but re-sends.
    replace: `await delay(5_000)`,
  },
  'facts are dropped when they cannot be sent': {
    file: 'apps/runtime-worker/outbox/outbox.ts',
    find: `      // Once per outage:`,
    replace: `      journal.append({ kind: 'accepted', to: facts.at(-1)!.factSeq })\n      // Once per outage:`,
  },
  'a second delivery of a create is a second create': {
    file: 'apps/runtime-worker/sandboxes/registry.ts',
    find: `(known !== undefined && known.epoch >= epoch))`,
    replace: `(known !== undefined && known.epoch > epoch))`,
  },
  'after a restart the agent is not asked': {
    file: 'apps/runtime-worker/execs/execs.ts',
    find: `if (memory.phase === 'intended') {`,
    replace: `if (memory.phase !== 'closed') {`,
  },
  'an exec that was sent is told never to have run': {
    file: 'apps/runtime-worker/execs/execs.ts',
    find: `this.lose(exec, this.wasSent(exec), reason)`,
    replace: `this.lose(exec, false, reason)`,
  },
  'after a power cut the journal is believed': {
    file: 'apps/runtime-worker/sandboxes/sandbox.ts',
    find: `mayHaveForgotten: () => record.bootId !== bootId()`,
    replace: `mayHaveForgotten: () => false`,
  },
  'an agent starts again what it knows': {
    file: 'test/sim/guest.ts',
    find: `    if (known) return this.outcome(known)\n    // The main`,
    replace: `    // The main`,
  },
  'nobody stops what should not be there': {
    file: 'apps/scheduler/heartbeat.ts',
    find: `of forUnwanted(heartbeat, live)) await`,
    replace: `of [] as Order[]) await`,
  },
  'a stop that was sent without a tenant': {
    file: 'apps/scheduler/heartbeat.ts',
    find: `stopOrder(tenant, sandboxId, epoch, 'ended')`,
    replace: `stopOrder('', sandboxId, epoch, 'ended')`,
  },
  'an ended exec keeps its slot': {
    file: 'apps/scheduler/reports.ts',
    find: `if (state.status === 'ended') request.execSlot = { action: 'release', execId }`,
    replace: '',
  },
  'a lost commit is taken for a good one': {
    file: 'libs/event-store/write.ts',
    find: `return Promise.allSettled(group.map(({ row, versions }) => settleLostCommit(db, row, versions, lost)))`,
    replace: `return group.map(({ versions }) => fulfilled({ outcome: 'appended', versions }))`,
  },
  'a command is accepted before the commit': {
    file: 'libs/event-store/write.ts',
    find: `    const { rows } = await client.query<{ refusal: Told | null }>({ name: 'append', text: APPEND, values })`,
    replace: `    client.query({ name: 'append', text: APPEND, values }).catch(() => {})\n    const rows = [{ refusal: null }]`,
  },
  'a command id is not looked at': {
    file: 'test/sim/postgres/statements/commands.ts',
    find: `return areNew ? null : { outcome: 'duplicate' }`,
    replace: `return null`,
  },
  'a group with a refused command is told as written': {
    file: 'libs/event-store/write.ts',
    find: `if (told === null) return`,
    replace: `if (told === null || group.length > 1) return`,
  },
  'a rejection is not stored': {
    file: 'libs/command-handling/handle.ts',
    find: `return { accepted: await reject(db, command, error, at, onCommitted), isNew: false }`,
    replace: `throw error`,
  },
  'the closing of a sandbox is not a fence for execs': {
    file: 'apps/scheduler/exec-commands.ts',
    find: `epoch: sandbox.epoch, open: true }`,
    replace: `epoch: sandbox.epoch, open: false }`,
  },
  'a lost sandbox keeps its reservation': {
    file: 'apps/scheduler/lost-sandboxes.ts',
    find: `        reservation: { action: 'release', sandboxId },\n`,
    replace: '',
  },
  'an ended sandbox keeps its name': {
    file: 'apps/scheduler/reports.ts',
    find: `      request.claims = { release: nameClaims(state.spec, sandboxId) }\n`,
    replace: '',
  },
  'the execs of a lost sandbox are forgotten': {
    file: 'apps/scheduler/orphaned-execs.ts',
    find: `      else await endOrphans(scheduler, tx, event)`,
    replace: '',
  },
  'the sequencer does not wait for older transactions': {
    file: 'libs/event-store/ledger/sequencer.ts',
    find: `xmin >= this.candidate.xid`,
    replace: `xmin >= 0n`,
  },
}

const name = process.env.SIM_MUTATION
if (name && !Object.hasOwn(MUTATIONS, name)) throw new Error(`no mutation is called ${name}`)

/** @param {string} path @param {string} text the source as it stands */
export function mutate(path, text) {
  const mutation = name ? MUTATIONS[name] : undefined
  if (mutation?.file !== path) return text
  if (text.split(mutation.find).length !== 2) {
    throw new Error(`mutation "${name}" must match once in ${path}: the code has changed, so change the mutation`)
  }
  return text.replace(mutation.find, () => mutation.replace)
}
