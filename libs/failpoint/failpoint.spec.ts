import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { expect, test } from '@jest/globals'
import { readTrap } from './armed.js'
import { FAILPOINTS } from './names.js'

/** Passes a place three times, and says so. `armed`: as only tests start a service. */
function pass(failpoint: string, { armed }: { armed: boolean }) {
  const program = `
    import { failpoint } from '#libs/failpoint'
    for (let n = 1; n <= 3; n++) {
      try { failpoint('exec-sent') } catch (error) { console.log(error.message) }
      console.log(n)
    }
    console.log(process.env.SANDTRAIL_FAILPOINT ?? 'unset')`
  const conditions = ['--conditions=source', ...(armed ? ['--conditions=failpoints'] : [])]
  const args = [...conditions, '--import', 'tsx', '--input-type=module', '-e', program]
  const env = { PATH: process.env.PATH, TSX_TSCONFIG_PATH: 'tsconfig.json', SANDTRAIL_FAILPOINT: failpoint }
  const child = spawn(process.execPath, args, { env, stdio: ['ignore', 'pipe', 'pipe'] })
  const said = { stdout: '', stderr: '' }
  for (const name of ['stdout', 'stderr'] as const) {
    child[name].on('data', (chunk) => {
      said[name] += chunk
    })
  }
  return { child, said, closed: once(child, 'close') as Promise<[number | null, string | null]> }
}

const happened = (said: { stderr: string }) => said.stderr.includes('{"failpoint":"exec-sent"')

async function until(condition: () => boolean): Promise<void> {
  while (!condition()) await new Promise((resolve) => setTimeout(resolve, 10))
}

test('without the condition nothing happens, and the key is left for the configuration to refuse', async () => {
  const { said, closed } = pass('exec-sent:1:kill', { armed: false })
  expect(await closed).toEqual([0, null])
  expect(said.stdout).toBe('1\n2\n3\nexec-sent:1:kill\n')
})

test('nothing that starts a service of an installation names the condition', () => {
  for (const file of ['docker-compose.yml', 'package.json', 'scripts/deploy/prepare.mjs']) {
    expect(readFileSync(file, 'utf8')).not.toMatch(/conditions[= ]failpoints/)
  }
})

test('kill ends the process at the pass that is meant', async () => {
  const { said, closed } = pass('exec-sent:2', { armed: true })
  expect(await closed).toEqual([null, 'SIGKILL'])
  expect(said.stdout).toBe('1\n')
  expect(happened(said)).toBe(true)
})

test('throw throws once, and the key is not handed on', async () => {
  const { said, closed } = pass('exec-sent:2:throw', { armed: true })
  expect(await closed).toEqual([0, null])
  expect(said.stdout).toBe('1\nfailpoint exec-sent\n2\n3\nunset\n')
})

test('stop stands still until SIGCONT', async () => {
  const { child, said, closed } = pass('exec-sent:1:stop', { armed: true })
  await until(() => /^State:\s+T/m.test(readFileSync(`/proc/${child.pid}/status`, 'utf8')))
  expect(said.stdout).toBe('')
  child.kill('SIGCONT')
  expect(await closed).toEqual([0, null])
  expect(said.stdout).toContain('3\n')
})

test('hang goes no line further', async () => {
  const { child, said, closed } = pass('exec-sent:1:hang', { armed: true })
  await until(() => happened(said))
  child.kill('SIGTERM') // The default of a process without a handler; a service would not even hear it.
  await closed
  expect(said.stdout).toBe('')
})

test('what names no place, pass or action is refused', () => {
  expect(readTrap('')).toBeNull()
  expect(() => readTrap('nowhere')).toThrow('no place is called nowhere')
  expect(() => readTrap('exec-sent:0')).toThrow('not a number of passes')
  expect(() => readTrap('exec-sent:1:explode')).toThrow('explode is not one of')
})

test('every place is passed somewhere, by the app that is said to pass it', async () => {
  const { globSync } = await import('node:fs')
  const sources = globSync('{apps,libs}/**/*.ts').filter(
    (file) => !file.endsWith('.spec.ts') && !file.startsWith('libs/failpoint'),
  )
  const texts = sources.map((file) => ({ file, text: readFileSync(file, 'utf8') }))
  for (const [app, names] of Object.entries(FAILPOINTS)) {
    for (const name of names) {
      const family = name.startsWith('create-') ? 'failpoint(`create-' : `failpoint('${name}')`
      const passedBy = texts.filter(
        ({ text }) => text.includes(`failpoint('${name}')`) || text.includes(family),
      )
      expect([
        name,
        passedBy.some(({ file }) => file.startsWith('libs/') || file.startsWith(`apps/${app}/`)),
      ]).toEqual([name, true])
    }
  }
})
