/** The filesystem tool of Modal's SDKs inside a real sandbox: its files, its links, its kernel's inotify. */

import { createHash, randomBytes } from 'node:crypto'
import { readFile, readlink } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from '@jest/globals'
import { type ExecId, makeId } from '#libs/domain'
import { until } from '../host/wait.js'
import type { RunningSandbox } from '../runtime.js'
import type { GvisorDriver } from './driver.js'
import { type GvisorHost, makeGvisorHost, shell, type TestRequest } from './testing.js'

/** The path that the SDKs have built in. */
const TOOL = '/__modal/.bin/modal-sandbox-fs-tools'

let host: GvisorHost
let driver: GvisorDriver
let request: TestRequest
let running: RunningSandbox

beforeAll(async () => {
  host = await makeGvisorHost()
  driver = host.driver()
  request = host.request()
  running = await driver.create(request, new AbortController().signal)
}, 120_000)

afterAll(async () => {
  expect(await driver.destroy(request.sandboxId, request.dir)).toEqual([])
  await driver.stop()
  await host.remove()
}, 60_000)

const sh = (script: string) => shell(running, request, script)

/** A call of the tool that goes on. */
async function start(command: object, user?: string): Promise<ExecId> {
  const execId: ExecId = makeId('ex', Date.now(), randomBytes(10))
  request.output.end(execId)
  const argv = [TOOL, JSON.stringify(command)]
  const outcome = await running.agent.exec({ execId, argv, stdin: 'open', ...(user ? { user } : {}) })
  expect(outcome.state).toBe('started')
  return execId
}

async function ended(execId: ExecId) {
  const { code } = await request.output.end(execId).promise
  running.agent.acknowledgeExit(execId)
  const [stdout, stderr] = [request.output.of(execId, 'stdout'), request.output.of(execId, 'stderr')]
  return { code, stdout, kind: stderr === '' ? null : JSON.parse(stderr).error_kind }
}

async function call(command: object, { input = Buffer.alloc(0), user = '' } = {}) {
  const execId = await start(command, user)
  // It may end before it has read anything.
  await running.agent.writeStdin(execId, 0, input, { eof: true }).catch(() => {})
  return ended(execId)
}

/** A watch that is known to be set, and what it has told so far. */
async function watching(options: { path: string; recursive?: boolean; filter?: string[] }) {
  await sh(`mkdir -p ${options.path}`)
  const execId = await start({ Watch: options })
  const told = () =>
    request.output
      .of(execId, 'stdout')
      .split('\n')
      .filter(Boolean)
      .map((line) => JSON.parse(line) as { event_type: string; paths: string[] })
  const sees = (event_type: string, ...paths: string[]) =>
    until(
      () => told().some((event) => event.event_type === event_type && String(event.paths) === String(paths)),
      { timeoutMs: 20_000 },
    )
  const touched = async () => {
    await sh(`touch ${options.path}/probe-$(date +%N)`)
    return told().length > 0
  }
  expect(await until(touched, { timeoutMs: 20_000, everyMs: 20 })).toBe(true)
  const end = async () => {
    await running.agent.writeStdin(execId, 0, Buffer.alloc(0), { eof: true })
    return ended(execId)
  }
  return { told, sees, end }
}

test('bytes go in and come out, parents are made, and the mode is that of any new file', async () => {
  const input = randomBytes(3_000_001)
  expect(await call({ WriteFile: { path: '/srv/a/b/file' } }, { input })).toMatchObject({ code: 0 })
  const sum = createHash('sha256').update(input).digest('hex')
  expect((await sh('sha256sum < /srv/a/b/file; stat -c %a /srv/a/b/file /srv/a/b')).stdout).toBe(
    `${sum}  -\n644\n755`,
  )
  expect((await sh(`${TOOL} '{"ReadFile":{"path":"/srv/a/b/file"}}' | sha256sum`)).stdout).toBe(`${sum}  -`)
})

test('entries are as stat(1) tells them', async () => {
  await sh('mkdir /srv/list; cd /srv/list; echo hello > b; ln -s b c; mkdir -m 1777 a; chown daemon:4242 b')
  const { code, stdout } = await call({ ListFiles: { path: '/srv/list' } })
  expect(code).toBe(0)
  const entries = JSON.parse(stdout) as { name: string; mode: number; modified_time: number }[]
  expect(entries).toMatchObject([
    { name: 'a', type: 'directory', permissions: '1777', owner: 'root', path: '/srv/list/a' },
    { name: 'b', type: 'file', size: 6, owner: 'daemon', group: '4242', permissions: '0644' },
    { name: 'c', type: 'symlink', symlink_target: 'b' },
  ])
  const { stdout: shown } = await sh('cd /srv/list; stat -c "%n %f %Y" a b c')
  expect(
    entries.map((e) => `${e.name} ${e.mode.toString(16)} ${Math.floor(e.modified_time)}`).join('\n'),
  ).toBe(shown)
  expect(JSON.parse((await call({ Stat: { path: '/srv/list/c' } })).stdout)).toMatchObject({ name: 'c' })
})

test('each refusal has the kind that the SDKs know', async () => {
  await sh('mkdir -p /srv/no/full; cd /srv/no; touch file full/x; mkfifo fifo; truncate -s 6G big')
  const kinds: [object, string][] = [
    [{ ListFiles: { path: '/srv/no/file' } }, 'NotDirectory'],
    [{ MakeDirectory: { path: '/srv/no/file', parents: true } }, 'PathAlreadyExists'],
    [{ MakeDirectory: { path: '/srv/no/file/x/y', parents: true } }, 'NotDirectory'],
    [{ MakeDirectory: { path: '/srv/no/x/y', parents: false } }, 'NotFound'],
    [{ ReadFile: { path: '/srv/no/big' } }, 'FileTooLarge'],
    [{ ReadFile: { path: '/srv/no/fifo' } }, 'NotSupported'],
    [{ ReadFile: { path: '/dev/zero' } }, 'NotSupported'],
    [{ WriteFile: { path: '/srv/no/fifo' } }, 'NotSupported'],
    [{ WriteFile: { path: '/srv/no' } }, 'IsDirectory'],
    [{ WriteFile: { path: '/srv/no/file/x' } }, 'NotDirectory'],
    [{ WriteFile: { path: '/etc/hosts' } }, 'PermissionDenied'],
    [{ Remove: { path: '/srv/no/full' } }, 'DirectoryNotEmpty'],
    [{ Stat: { path: '/srv/missing' } }, 'NotFound'],
    [{ Watch: { path: '/srv/missing' } }, 'NotFound'],
    [{ Chmod: { path: '/srv' } }, 'InvalidInput'],
  ]
  for (const [command, kind] of kinds)
    expect([command, await call(command)]).toEqual([command, { code: 1, stdout: '', kind }])
  await sh('rm /srv/no/big')
})

test('a user of the guest has its own rights and no others', async () => {
  await sh('mkdir -m 700 /srv/private; install -d -o daemon /srv/daemons')
  const user = 'daemon'
  const input = Buffer.from('mine')
  expect(await call({ WriteFile: { path: '/srv/daemons/x' } }, { input, user })).toMatchObject({ code: 0 })
  expect((await sh('stat -c %U /srv/daemons/x')).stdout).toBe('daemon')
  for (const command of ['ListFiles', 'Stat', 'ReadFile', 'Remove', 'WriteFile', 'Watch']) {
    const path = command === 'ListFiles' || command === 'Watch' ? '/srv/private' : '/srv/private/x'
    expect(await call({ [command]: { path } }, { user })).toMatchObject({ kind: 'PermissionDenied' })
  }
})

test('a tree goes, and what its links point to stays', async () => {
  await sh(
    'mkdir -p /srv/kept /srv/tree/a/b; touch /srv/kept/x /srv/tree/a/b/y; ln -s /srv/kept /srv/tree/a/l',
  )
  expect(await call({ Remove: { path: '/srv/tree', recursive: true } })).toMatchObject({ code: 0 })
  expect((await sh('ls -d /srv/tree /srv/kept/x 2>/dev/null')).stdout).toBe('/srv/kept/x')
})

test('a watch of the root’s files tells what other programs do, in its order', async () => {
  const { told, sees, end } = await watching({
    path: '/srv/watched',
    filter: ['Create', 'Modify', 'Remove', 'Rename', 'RenameFrom', 'RenameTo'],
  })
  await sh('mkdir -p /srv/outside; cd /srv/watched; mkdir sub')
  expect(await sees('Create', '/srv/watched/sub')).toBe(true)
  const begin = told().length
  await sh(
    'cd /srv/watched; echo 1 > f; echo 2 >> f; mv f g; mv g ../outside; mv ../outside/g h; rm h; touch sub/x',
  )
  expect(await sees('Remove', '/srv/watched/h')).toBe(true)
  const [f, g, h] = ['f', 'g', 'h'].map((name) => `/srv/watched/${name}`)
  const happened = told().slice(begin)
  expect(happened.filter((event, i) => JSON.stringify(event) !== JSON.stringify(happened[i - 1]))).toEqual([
    { event_type: 'Create', paths: [f] },
    { event_type: 'Modify', paths: [f] },
    { event_type: 'Rename', paths: [f, g] },
    { event_type: 'RenameFrom', paths: [g] },
    { event_type: 'RenameTo', paths: [h] },
    { event_type: 'Remove', paths: [h] },
  ])
  expect(await end()).toMatchObject({ code: 0, kind: null })
  expect(JSON.stringify(told())).not.toContain('sub/x')
})

test('a file that lived for 10 ms is seen, also in directories that are new', async () => {
  const { sees, end } = await watching({ path: '/tmp/deep', recursive: true, filter: ['Create', 'Remove'] })
  await sh(
    'cd /tmp/deep; mkdir -p a/b/c; touch a/b/c/kept; sleep 0.2; touch a/b/c/short; sleep 0.01; rm a/b/c/short',
  )
  for (const name of ['a', 'a/b', 'a/b/c', 'a/b/c/kept', 'a/b/c/short']) {
    expect([name, await sees('Create', `/tmp/deep/${name}`)]).toEqual([name, true])
  }
  expect(await sees('Remove', '/tmp/deep/a/b/c/short')).toBe(true)
  await sh('cd /tmp/deep; mv a moved; touch moved/b/c/later')
  expect(await sees('Create', '/tmp/deep/moved/b/c/later')).toBe(true)
  expect(await end()).toMatchObject({ code: 0 })
})

test('a file may be watched, and a watch ends by its time', async () => {
  await sh('echo 0 > /srv/one')
  const execId = await start({ Watch: { path: '/srv/one', timeout_secs: 3, filter: ['Modify'] } })
  const stop = sh('for i in $(seq 100); do echo $i > /srv/one; sleep 0.05; [ -e /srv/stop ] && break; done')
  const { code, stdout } = await ended(execId)
  await sh('touch /srv/stop')
  await stop
  expect([code, stdout.split('\n')[0]]).toEqual([0, '{"event_type":"Modify","paths":["/srv/one"]}'])
})

test('root inside can neither change the tool nor put another in its place for anybody else', async () => {
  const agent = host.options.agentBinary
  const sumOf = async (path: string) =>
    createHash('sha256')
      .update(await readFile(path))
      .digest('hex')
  const [sum, link] = [await sumOf(agent), join(request.dir, 'runtime/sockets/.bin/modal-sandbox-fs-tools')]
  const dir = '/__modal/.bin'
  for (const attempt of [
    `echo x > ${TOOL}`,
    `rm -f ${TOOL}`,
    `mv ${TOOL} ${TOOL}2`,
    `ln -sf /bin/sh ${TOOL}`,
    `touch ${dir}/x`,
    `chmod 777 ${TOOL}`,
    `chmod 777 ${dir}`,
    `truncate -s 0 /.sandtrail/agent`,
    `mount -o remount,rw /__modal && touch ${dir}/x`,
    `mount -o remount,rw /.sandtrail/agent && echo x > /.sandtrail/agent`,
    `mkdir -p /mnt/m && mount --bind /__modal /mnt/m && touch /mnt/m/.bin/x`,
    `${TOOL} '{"WriteFile":{"path":"${TOOL}"}}' < /dev/null`,
    `${TOOL} '{"Remove":{"path":"/__modal","recursive":true}}'`,
  ]) {
    expect([attempt, (await sh(attempt)).code]).not.toEqual([attempt, 0])
  }
  expect(await sumOf(agent)).toBe(sum)
  expect(await readlink(link)).toBe('/.sandtrail/agent')
  expect((await sh(`ls -A ${dir}`)).stdout).toBe('modal-sandbox-fs-tools')
  expect(await call({ Stat: { path: '/' } })).toMatchObject({ code: 0 })
})

test('the tool is no part of the root', async () => {
  await sh('sync')
  const root = host.pool.rootPath(request.sandboxId)
  await expect(readFile(join(root, TOOL))).rejects.toMatchObject({ code: 'ENOENT' })
})
