/** What a system leaves on the host when its owner ends, in whatever way. */

import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { afterEach, expect, test } from '@jest/globals'
import { inventory } from '../../scripts/system/inventory.mjs'

const here = (path: string) => fileURLToPath(new URL(path, import.meta.url))
const started: ChildProcess[] = []

afterEach(async () => {
  for (const child of started.splice(0)) {
    if (child.exitCode === null && child.signalCode === null) await end(child, 'SIGTERM')
  }
  await sweep()
})

test('an interrupted owner takes everything along', async () => {
  const { child, id } = await occupant()
  expect(await kinds(id)).toEqual(['cgroup', 'link', 'loop', 'mount', 'netns', 'nft-table', 'process'])
  await end(child, 'SIGINT')
  expect(await inventory({ id })).toEqual([])
  expect(existsSync(`/var/lib/sandtrail/${id}`)).toBe(false)
}, 60_000)

test('what a kill -9 left is removed by the next run, and a system whose owner lives is left alone', async () => {
  const [dead, alive] = await Promise.all([occupant(), occupant()])
  await end(dead.child, 'SIGKILL')
  const before = await inventory({ id: alive.id })
  expect(await inventory({ id: dead.id })).not.toEqual([])

  await sweep()
  expect(await inventory({ id: dead.id })).toEqual([])
  expect(existsSync(`/var/lib/sandtrail/${dead.id}`)).toBe(false)
  expect(await inventory({ id: alive.id })).toEqual(before)
}, 60_000)

async function occupant(): Promise<{ child: ChildProcess; id: string }> {
  // A process of its own, as `make demo` is: not one that belongs to Jest.
  const { _SANDTRAIL_OWNER, ...env } = process.env
  const child = spawn(process.execPath, [here('occupant.mjs')], { env, stdio: ['ignore', 'pipe', 'inherit'] })
  started.push(child)
  const exited = once(child, 'exit').then(([code]) =>
    Promise.reject(new Error(`the occupant ended with ${code}`)),
  )
  exited.catch(() => {}) // At its proper end nobody listens any more.
  const [line] = await Promise.race([once(child.stdout!, 'data'), exited])
  return { child, id: String(line).trim() }
}

async function end(child: ChildProcess, signal: NodeJS.Signals) {
  child.kill(signal)
  await once(child, 'exit')
}

async function sweep() {
  const [code] = await once(spawn(process.execPath, [here('../../scripts/system/sweep.mjs')]), 'exit')
  expect(code).toBe(0)
}

const kinds = async (id: string) =>
  [...new Set((await inventory({ id })).map((line) => JSON.parse(line).kind as string))].sort()
