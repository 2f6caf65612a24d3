/** The inner loop: the lasting system, compiled and restarted on every save, until Ctrl-C. */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { createInterface } from 'node:readline'
import { CLONE } from './tools.mjs'

const SERVERS = ['postgres', 'nats']

/** @param {import('./system.mjs').System} system @param {(line: string) => void} say */
export async function dev(system, say) {
  const args = [
    'node_modules/typescript/bin/tsc',
    '-p',
    'tsconfig.build.json',
    '--watch',
    '--preserveWatchOutput',
  ]
  const compiler = spawn(process.execPath, args, { cwd: CLONE, stdio: ['ignore', 'pipe', 'inherit'] })
  // The terminal's Ctrl-C reaches the compiler as well; its end is the end of the loop.
  for (const name of /** @type {const} */ (['SIGINT', 'SIGTERM'])) process.on(name, () => compiler.kill(name))
  const ended = once(compiler, 'exit')

  let first = true // What `up` has just started is what the compiler finds.
  for await (const line of createInterface({ input: compiler.stdout })) {
    console.log(line)
    if (!line.includes('Found 0 errors')) continue
    if (!first) await restartServices(system, say)
    first = false
  }
  await ended
}

/** @param {import('./system.mjs').System} system @param {(line: string) => void} say */
async function restartServices(system, say) {
  const started = performance.now()
  const names = system.services().map(({ name }) => name)
  const restarted = await Promise.allSettled(
    names.filter((name) => !SERVERS.includes(name)).map((name) => system.restart(name)),
  )
  for (const result of restarted) if (result.status === 'rejected') say(result.reason.message)
  say(`restarted in ${Math.round(performance.now() - started)} ms`)
}
