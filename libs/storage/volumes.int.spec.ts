import { execFileSync } from 'node:child_process'
import {
  chmodSync,
  existsSync,
  linkSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  renameSync,
  rmdirSync,
  rmSync,
  statSync,
  symlinkSync,
  unlinkSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterAll, beforeAll, expect, test } from '@jest/globals'
import { makeId, type SandboxId, type VolumeId } from '#libs/domain'
import { Pool } from './index.js'
import { makeTestPool, type TestPool } from './testing.js'

let disk: TestPool
let pool: Pool
let serial = 0

beforeAll(async () => {
  disk = await makeTestPool()
  pool = await Pool.open(disk.dir)
})

afterAll(async () => {
  await pool?.close()
  await disk?.remove()
})

test('a volume that the pool does not know is empty, version 0', async () => {
  const { writer } = await volume()
  expect(writer.version).toBe(0)
  expect(readdirSync(writer.dir)).toEqual([])
  expect(statSync(writer.dir).mode & 0o7777).toBe(0o755)
})

test('a mount shows the version that was newest when it was made, until it is reloaded', async () => {
  const { volumeId, writer } = await volume()
  writeFileSync(join(writer.dir, 'a'), 'one')
  const reader = await mount(volumeId, { readOnly: true })
  expect(readdirSync(reader.dir)).toEqual([])
  await commit(writer)
  expect(readdirSync(reader.dir)).toEqual([])
  const reloaded = await pool.reloadVolume({ ...reader, reloadId: 'once' })
  expect(reloaded).toMatchObject({ fromVersion: 0, toVersion: 1 })
  expect(await pool.reloadVolume({ ...reader, reloadId: 'once' })).toEqual(reloaded)
  expect(readFileSync(join(reloaded.path, 'a'), 'utf8')).toBe('one')
  await pool.dropSlot(reader.sandboxId, reader.slot)
  await pool.dropSlot(reader.sandboxId, reader.slot)
  expect(existsSync(reader.dir)).toBe(false)
})

test('a commit alone is the writer’s tree, and each version stays as it was', async () => {
  const { volumeId, writer } = await volume()
  writeFileSync(join(writer.dir, 'a'), 'one')
  expect(await commit(writer)).toMatchObject({ version: 1, base: 0, changedPaths: 1, overwritten: [] })
  writeFileSync(join(writer.dir, 'a'), 'two')
  mkdirSync(join(writer.dir, 'd'))
  writeFileSync(join(writer.dir, 'd/b'), 'b')
  expect(await commit(writer)).toMatchObject({ version: 2, base: 1, changedPaths: 3 })
  unlinkSync(join(writer.dir, 'a'))
  expect(await commit(writer)).toMatchObject({ version: 3, base: 2, changedPaths: 1 })
  expect(tree(at(volumeId, 1))).toEqual({ a: 'one' })
  expect(tree(at(volumeId, 2))).toEqual({ a: 'two', 'd/': '', 'd/b': 'b' })
  expect(tree(at(volumeId, 3))).toEqual({ 'd/': '', 'd/b': 'b' })
  expect((await pool.volumeLog(volumeId, 1)).map(({ version }) => version)).toEqual([2, 3])
})

test('a fixed version is mounted read-only, and one that does not exist is refused', async () => {
  const { volumeId, writer } = await volume()
  writeFileSync(join(writer.dir, 'a'), 'one')
  await commit(writer)
  writeFileSync(join(writer.dir, 'a'), 'two')
  await commit(writer)
  const old = await mount(volumeId, { readOnly: true, version: 1 })
  expect(tree(old.dir)).toEqual({ a: 'one' })
  expect(() => writeFileSync(join(old.dir, 'a'), 'changed')).toThrow(/EROFS/)
  await expect(mount(volumeId, { readOnly: true, version: 9 })).rejects.toMatchObject({ code: 'NOT_FOUND' })
  await expect(mount(volumeId, { version: 1 })).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' })
  await expect(commit(old)).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' })
})

test('a commit and a staging sent twice have one effect', async () => {
  const { volumeId, writer } = await volume()
  writeFileSync(join(writer.dir, 'a'), 'one')
  const request = { ...writer, commitId: 'same', trigger: 'commit' as const }
  await pool.stageVolume(request)
  await pool.stageVolume(request)
  const [first, second] = await Promise.all([
    pool.commitStaged(volumeId, 'same'),
    pool.commitStaged(volumeId, 'same'),
  ])
  await pool.stageVolume(request)
  expect(second).toEqual(first)
  expect(await pool.volumeLog(volumeId, 0)).toEqual([first])
  expect(readdirSync(join(disk.dir, 'staged'))).toEqual([])
  await expect(pool.commitStaged(volumeId, 'unknown')).rejects.toMatchObject({ code: 'NOT_FOUND' })
})

test('what is staged is seen by a later mount, and by its commit still once', async () => {
  const { volumeId, writer } = await volume()
  writeFileSync(join(writer.dir, 'a'), 'one')
  await pool.stageVolume({ ...writer, commitId: 'at-the-end', trigger: 'sandbox-end' })
  await pool.removeSlots(writer.sandboxId)
  const later = await mount(volumeId)
  expect(later.version).toBe(1)
  expect(tree(later.dir)).toEqual({ a: 'one' })
  expect(await pool.commitStaged(volumeId, 'at-the-end')).toMatchObject({
    version: 1,
    trigger: 'sandbox-end',
  })
})

test('two writers are merged by path: the last commit wins, deletions too', async () => {
  const { volumeId, writer } = await volume()
  for (const name of ['same', 'mine', 'yours', 'gone', 'kept']) writeFileSync(join(writer.dir, name), 'base')
  mkdirSync(join(writer.dir, 'dir'))
  await commit(writer)
  const [a, b] = [await mount(volumeId), await mount(volumeId)]
  writeFileSync(join(a.dir, 'same'), 'a')
  writeFileSync(join(a.dir, 'yours'), 'a')
  writeFileSync(join(a.dir, 'gone'), 'a')
  writeFileSync(join(a.dir, 'dir/a'), 'a')
  writeFileSync(join(b.dir, 'same'), 'b')
  writeFileSync(join(b.dir, 'mine'), 'b')
  writeFileSync(join(b.dir, 'dir/b'), 'b')
  unlinkSync(join(b.dir, 'gone'))
  expect(await commit(a)).toMatchObject({ version: 2, base: 1, changedPaths: 4, overwritten: [] })
  const second = await commit(b)
  expect(second).toMatchObject({
    version: 3,
    base: 1,
    changedPaths: 4,
    overwritten: ['gone', 'same'],
    overwrittenTotal: 2,
  })
  expect(tree(at(volumeId, 3))).toEqual({
    'dir/': '',
    'dir/a': 'a',
    'dir/b': 'b',
    kept: 'base',
    mine: 'b',
    same: 'b',
    yours: 'a',
  })
})

test('after a merged commit a writer’s own paths are never listed, and others’ still are', async () => {
  const { volumeId, writer } = await volume()
  writeFileSync(join(writer.dir, 'x'), 'base')
  await commit(writer)
  const [a, b] = [await mount(volumeId), await mount(volumeId)]
  writeFileSync(join(a.dir, 'theirs'), 'a')
  await commit(a)
  writeFileSync(join(b.dir, 'own'), '1')
  expect(await commit(b)).toMatchObject({ version: 3, overwritten: [] })
  writeFileSync(join(b.dir, 'own'), '2')
  expect(await commit(b)).toMatchObject({ version: 4, changedPaths: 1, overwritten: [] })
  // It never saw the other's file, and puts its own in its place.
  writeFileSync(join(b.dir, 'theirs'), 'b')
  expect(await commit(b)).toMatchObject({ version: 5, changedPaths: 1, overwritten: ['theirs'] })
  // Nor does it bring back what it had once written, when another has changed it since.
  const c = await mount(volumeId)
  writeFileSync(join(c.dir, 'own'), 'c')
  await commit(c)
  writeFileSync(join(b.dir, 'else'), 'b')
  expect(await commit(b)).toMatchObject({ changedPaths: 1, overwritten: [] })
  expect(tree(at(volumeId, 7))).toMatchObject({ own: 'c', else: 'b', theirs: 'b' })
})

test('two copies of one slot, staged before either is committed, do not bring back what others changed', async () => {
  const { volumeId, writer } = await volume()
  writeFileSync(join(writer.dir, 'x'), 'first')
  await pool.stageVolume({ ...writer, commitId: `one-${volumeId}`, trigger: 'commit' })
  writeFileSync(join(writer.dir, 'y'), 'second')
  await pool.stageVolume({ ...writer, commitId: `two-${volumeId}`, trigger: 'commit' })
  await pool.commitStaged(volumeId, `one-${volumeId}`)
  // A mount would merge what is staged, so the other writer is played by hand.
  const other = await pool.commitStaged(volumeId, `two-${volumeId}`)
  expect(other).toMatchObject({ version: 2, base: 1, changedPaths: 1, overwritten: [] })
  expect(tree(at(volumeId, 2))).toEqual({ x: 'first', y: 'second' })
})

test('files and directories that took each other’s place are settled by the last commit', async () => {
  const { volumeId, writer } = await volume()
  mkdirSync(join(writer.dir, 'd'))
  writeFileSync(join(writer.dir, 'd/old'), 'base')
  writeFileSync(join(writer.dir, 'f'), 'base')
  mkdirSync(join(writer.dir, 'e'))
  await commit(writer)
  const [a, b] = [await mount(volumeId), await mount(volumeId)]
  writeFileSync(join(a.dir, 'd/new'), 'a')
  unlinkSync(join(a.dir, 'f'))
  mkdirSync(join(a.dir, 'f'))
  writeFileSync(join(a.dir, 'f/inner'), 'a')
  rmdirSync(join(a.dir, 'e'))
  rmSync(join(b.dir, 'd'), { recursive: true })
  writeFileSync(join(b.dir, 'd'), 'file now')
  writeFileSync(join(b.dir, 'f'), 'still a file')
  writeFileSync(join(b.dir, 'e/file'), 'b')
  await commit(a)
  const merged = await commit(b)
  expect(merged.overwritten).toEqual(['d/new', 'e', 'f', 'f/inner'])
  expect(tree(at(volumeId, 3))).toEqual({ d: 'file now', 'e/': '', 'e/file': 'b', f: 'still a file' })
})

test('a deleted directory stays when another has put something into it', async () => {
  const { volumeId, writer } = await volume()
  mkdirSync(join(writer.dir, 'd'))
  writeFileSync(join(writer.dir, 'd/old'), 'base')
  await commit(writer)
  const [a, b] = [await mount(volumeId), await mount(volumeId)]
  writeFileSync(join(a.dir, 'd/new'), 'a')
  rmSync(join(b.dir, 'd'), { recursive: true })
  await commit(a)
  expect(await commit(b)).toMatchObject({ overwritten: [] })
  expect(tree(at(volumeId, 3))).toEqual({ 'd/': '', 'd/new': 'a' })
})

test('owners, modes, links, xattrs and special files survive a merge', async () => {
  const { volumeId, writer } = await volume()
  const other = await mount(volumeId)
  writeFileSync(join(other.dir, 'other'), '')
  await commit(other)
  const make = (script: string) => execFileSync('bash', ['-ec', script], { cwd: writer.dir })
  make(
    'mkdir -p d/e; echo hi > d/e/f; chown 7:8 d/e/f; chmod 4711 d/e/f; chown 9:10 d/e; chmod 1777 d/e; touch -d @1000000000.123456789 d/e/f d/e',
  )
  make('mkfifo pipe; mknod disk b 7 99; ln -s /etc/passwd link; ln -s /nowhere dangling')
  make(
    "python3 -c \"import os,socket; socket.socket(socket.AF_UNIX).bind('sock'); os.setxattr('d', 'user.dir', b'1'); os.setxattr('d/e/f', 'user.file', b'2')\"",
  )
  linkSync(join(writer.dir, 'd/e/f'), join(writer.dir, 'hard'))
  await commit(writer)
  const got = at(volumeId, 2)
  const file = statSync(join(got, 'd/e/f'), { bigint: true })
  expect([file.mode & 0o7777n, file.uid, file.gid, file.nlink]).toEqual([0o4711n, 7n, 8n, 2n])
  const dir = statSync(join(got, 'd/e'), { bigint: true })
  expect([dir.mode & 0o7777n, dir.uid, dir.gid, dir.mtimeNs]).toEqual([
    0o1777n,
    9n,
    10n,
    1000000000123456789n,
  ])
  expect(file.mtimeNs).toBe(1000000000123456789n)
  expect(statSync(join(got, 'hard')).ino).toBe(Number(file.ino))
  expect(lstatSync(join(got, 'pipe')).isFIFO()).toBe(true)
  expect(lstatSync(join(got, 'disk')).rdev).toBe(lstatSync(join(writer.dir, 'disk')).rdev)
  expect(lstatSync(join(got, 'sock')).isSocket()).toBe(true)
  expect(readlinkSync(join(got, 'link'))).toBe('/etc/passwd')
  expect(readlinkSync(join(got, 'dangling'))).toBe('/nowhere')
  const xattrs = execFileSync(
    'python3',
    [
      '-c',
      'import os,sys; print([os.getxattr(p, n) for p, n in (("d", "user.dir"), ("d/e/f", "user.file"))])',
    ],
    { cwd: got, encoding: 'utf8' },
  )
  expect(xattrs.trim()).toBe("[b'1', b'2']")
})

test('a directory that another replaced by a symlink is not written, or deleted, through', async () => {
  const outside = mkdtempSync(join(disk.scratch, 'outside-'))
  writeFileSync(join(outside, 'victim'), 'untouched')
  writeFileSync(join(outside, 'changed'), 'untouched')
  const { volumeId, writer } = await volume()
  for (const dir of ['write', 'delete', 'deep']) {
    mkdirSync(join(writer.dir, dir))
    for (const name of ['victim', 'changed']) writeFileSync(join(writer.dir, dir, name), 'base')
  }
  mkdirSync(join(writer.dir, 'deep/er'))
  await commit(writer)
  const [evil, good] = [await mount(volumeId), await mount(volumeId)]
  for (const dir of ['write', 'delete', 'deep']) {
    rmSync(join(evil.dir, dir), { recursive: true })
    symlinkSync(outside, join(evil.dir, dir))
  }
  symlinkSync(join(outside, 'victim'), join(evil.dir, 'file'))
  writeFileSync(join(good.dir, 'write/changed'), 'good')
  writeFileSync(join(good.dir, 'write/new'), 'good')
  writeFileSync(join(good.dir, 'file'), 'good')
  unlinkSync(join(good.dir, 'delete/victim'))
  mkdirSync(join(good.dir, 'deep/er/est'))
  chmodSync(join(good.dir, 'deep/er'), 0o700)
  await commit(evil)
  const merged = await commit(good)
  expect(tree(outside)).toEqual({ victim: 'untouched', changed: 'untouched' })
  expect(readdirSync(outside).sort()).toEqual(['changed', 'victim'])
  const got = at(volumeId, 3)
  expect(lstatSync(join(got, 'write')).isDirectory()).toBe(true)
  expect(readFileSync(join(got, 'write/new'), 'utf8')).toBe('good')
  expect(lstatSync(join(got, 'file')).isFile()).toBe(true)
  expect(statSync(join(got, 'deep/er/est')).isDirectory()).toBe(true)
  expect(lstatSync(join(got, 'delete')).isSymbolicLink()).toBe(true)
  expect(merged.overwritten).toEqual(expect.arrayContaining(['deep', 'file', 'write']))
})

test('a slot that the guest swapped for a symlink to another volume is neither copied nor deleted through', async () => {
  const { volumeId: secretId, writer: secret } = await volume()
  writeFileSync(join(secret.dir, 'secret'), 's')
  await commit(secret)
  const { writer } = await volume()
  renameSync(writer.dir, `${writer.dir}-moved`)
  symlinkSync(at(secretId, 1), writer.dir)
  await expect(commit(writer, 'swapped')).rejects.toMatchObject({ code: 'INTERNAL' })
  expect(readdirSync(join(disk.dir, 'staged'))).not.toContain('swapped')
  await pool.dropSlot(writer.sandboxId, writer.slot)
  expect(tree(at(secretId, 1))).toEqual({ secret: 's' })
  expect(existsSync(`${writer.dir}-moved`)).toBe(false)
})

test('names of any bytes are kept', async () => {
  const { volumeId, writer } = await volume()
  const other = await mount(volumeId)
  writeFileSync(join(other.dir, 'other'), '')
  await commit(other)
  const names = [
    'new\nline',
    '-rf',
    '--',
    ' ',
    '"quoted"',
    "it's",
    '$(id)',
    '\\',
    'a\tb',
    '*',
    'ünï',
    '~',
    '\x01\x7f',
  ]
  for (const name of names) writeFileSync(join(writer.dir, name), name)
  const raw = Buffer.concat([Buffer.from(`${writer.dir}/`), Buffer.from([0xff, 0xfe, 0x2e])])
  writeFileSync(raw, 'raw')
  mkdirSync(join(writer.dir, 'a'))
  writeFileSync(join(writer.dir, 'a/-x'), '1')
  writeFileSync(join(writer.dir, 'a.b'), '2')
  expect(await commit(writer)).toMatchObject({ changedPaths: names.length + 4 })
  const got = at(volumeId, 2)
  expect(readdirSync(got, 'latin1').sort()).toEqual([...readdirSync(writer.dir, 'latin1'), 'other'].sort())
  for (const name of names) expect(readFileSync(join(got, name), 'utf8')).toBe(name)
})

test('a tree deeper than a path can be long is kept when nobody else wrote, and parked, stopping nobody, when one did', async () => {
  const { volumeId, writer } = await volume()
  const other = await mount(volumeId)
  const deep =
    'import os\nfor i in range(40):\n os.mkdir("d"*200); os.chdir("d"*200)\nopen("f","w").write("x")'
  execFileSync('python3', ['-c', deep], { cwd: writer.dir })
  expect(await commit(writer)).toMatchObject({ version: 1, changedPaths: 41 })
  execFileSync('python3', ['-c', deep], { cwd: other.dir })
  await expect(commit(other, 'too-deep')).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' })
  await expect(pool.commitStaged(volumeId, 'too-deep')).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' })
  expect((await mount(volumeId)).version).toBe(1)
  expect(existsSync(join(disk.dir, 'staged/too-deep'))).toBe(true)
  await pool.removeVolume(volumeId)
  expect(readdirSync(join(disk.dir, 'staged')).join()).not.toContain('too-deep')
})

test('a crash at any point of a commit loses nothing and doubles nothing', async () => {
  const { volumeId, writer } = await volume()
  const other = await mount(volumeId)
  writeFileSync(join(writer.dir, 'a'), 'one')
  await commit(writer)
  writeFileSync(join(other.dir, 'b'), 'two')
  const commitId = `crash-${volumeId}`
  await pool.stageVolume({ ...other, commitId, trigger: 'commit' })
  // Half a version and half a line, as a power cut leaves them.
  execFileSync('btrfs', ['subvolume', 'create', at(volumeId, 2)])
  writeFileSync(join(at(volumeId, 2), 'garbage'), '')
  const log = join(disk.dir, 'volumes', volumeId, 'log.jsonl')
  const before = readFileSync(log, 'utf8')
  writeFileSync(log, `${before}{"version":2,"com`)
  execFileSync('btrfs', ['subvolume', 'create', join(disk.dir, 'tmp', `merge-${commitId}`)])
  const record = readFileSync(join(disk.dir, 'staged', `${commitId}.json`), 'utf8')

  const reopened = await Pool.open(disk.dir)
  expect(await reopened.volumeLog(volumeId, 1)).toEqual([])
  expect(await reopened.commitStaged(volumeId, commitId)).toMatchObject({ version: 2, changedPaths: 1 })
  expect(tree(at(volumeId, 2))).toEqual({ a: 'one', b: 'two' })

  // The line is there, tidying up had not begun.
  writeFileSync(join(disk.dir, 'staged', `${commitId}.json`), record)
  const again = await Pool.open(disk.dir)
  expect((await again.volumeLog(volumeId, 0)).map(({ version }) => version)).toEqual([1, 2])
  expect(existsSync(join(disk.dir, 'staged', `${commitId}.json`))).toBe(false)
  expect(await again.commitStaged(volumeId, commitId)).toMatchObject({ version: 2 })
  await reopened.close()
  await again.close()
})

test('a copy that a slot’s next changes are counted from goes with the slot', async () => {
  const { volumeId, writer } = await volume()
  const other = await mount(volumeId)
  await commit(other)
  writeFileSync(join(writer.dir, 'a'), 'one')
  await commit(writer, `kept-${volumeId}`)
  expect(readdirSync(join(disk.dir, 'staged'))).toContain(`kept-${volumeId}`)
  await pool.removeSlots(writer.sandboxId)
  expect(readdirSync(join(disk.dir, 'staged'))).not.toContain(`kept-${volumeId}`)
})

test('a mount right after a writer’s end sees what was staged, while its slots are removed', async () => {
  for (let round = 0; round < 60; round++) {
    const { volumeId, writer } = await volume()
    writeFileSync(join(writer.dir, 'a'), 'one')
    await pool.stageVolume({ ...writer, commitId: `end-${volumeId}`, trigger: 'sandbox-end' })
    // At another moment of the mount each time.
    const removed = sleep(round).then(() => pool.removeSlots(writer.sandboxId))
    const [reader] = await Promise.all([mount(volumeId, { readOnly: true }), removed])
    expect(existsSync(writer.dir)).toBe(false)
    expect(readFileSync(join(reader.dir, 'a'), 'utf8')).toBe('one')
  }
})

test('the end of a sandbox that wrote nothing makes no version', async () => {
  const { volumeId, writer } = await volume()
  writeFileSync(join(writer.dir, 'a'), 'one')
  await commit(writer)
  const [reader, other] = [await mount(volumeId), await mount(volumeId)]
  readFileSync(join(reader.dir, 'a'))
  const end = (from: Mounted) => {
    const commitId = `end-${from.sandboxId}`
    return pool
      .stageVolume({ ...from, commitId, trigger: 'sandbox-end' })
      .then(() => pool.commitStaged(volumeId, commitId))
  }
  expect(await end(reader)).toBeNull()
  writeFileSync(join(other.dir, 'b'), 'two')
  expect(await end(other)).toMatchObject({ version: 2 })
  expect(await end(writer)).toBeNull()
  expect(await pool.volumeLog(volumeId, 0)).toHaveLength(2)
})

test('slots have a quota, and their directory a small one', async () => {
  const small = await Pool.open(disk.dir, { slotQuotaBytes: 10_000_000 })
  const [volumeId, sandboxId] = [newVolume(), newSandbox()]
  const dir = await small.slotsDir(sandboxId)
  const { path } = await small.mountVolume({
    volumeId,
    sandboxId,
    slot: 'v0',
    readOnly: false,
    version: null,
  })
  const fill = (target: string, mib: number) => () =>
    execFileSync('dd', ['if=/dev/zero', `of=${target}`, 'bs=1M', `count=${mib}`, 'conv=fsync'], {
      stdio: 'pipe',
    })
  fill(join(path, 'fits'), 5)()
  expect(fill(join(path, 'more'), 20)).toThrow(/quota/)
  expect(fill(join(dir, 'junk'), 30)).toThrow(/quota/)
  await small.removeSlots(sandboxId)
  await small.removeSlots(sandboxId)
  expect(existsSync(dir)).toBe(false)
  await small.close()
})

test('slots go wherever the guest has moved them, whatever it called the way there', async () => {
  const sandboxId = newSandbox()
  const dir = await pool.slotsDir(sandboxId)
  const slot = async (name: string) =>
    (await pool.mountVolume({ volumeId: newVolume(), sandboxId, slot: name, readOnly: false, version: null }))
      .path
  const odd = Buffer.concat([Buffer.from(dir), Buffer.from([0x2f, 0xff])])
  mkdirSync(odd)
  renameSync(await slot('v0'), Buffer.concat([odd, Buffer.from('/a\nb')]))
  const name = 'd'.repeat(200)
  const script = 'for i in $(seq 25); do mkdir $1 && cd -P $1 || exit 1; done; mv $0/v1 deep'
  await slot('v1')
  execFileSync('sh', ['-c', script, dir, name], { cwd: await slot('v2'), stdio: 'pipe' })
  await pool.removeSlots(sandboxId)
  expect(existsSync(dir)).toBe(false)
  const left = execFileSync('btrfs', ['subvolume', 'list', disk.dir], { encoding: 'utf8' })
  expect(left).not.toContain(sandboxId)
})

test('100,000 files are committed as they are, and merged, well within the commit’s deadline', async () => {
  const { volumeId, writer } = await volume()
  const other = await mount(volumeId)
  const make =
    'import os\nfor d in range(100):\n os.makedirs(f"d{d}")\n for i in range(1000): open(f"d{d}/f{i}","w").write("x")'
  execFileSync('python3', ['-c', make], { cwd: writer.dir })
  const asIs = Date.now()
  expect(await commit(writer)).toMatchObject({ changedPaths: 100_100 })
  const merging = Date.now()
  execFileSync('python3', ['-c', make.replaceAll('"x"', '"yy"')], { cwd: other.dir })
  const merged = await commit(other)
  const done = Date.now()
  expect(merged).toMatchObject({ version: 2, changedPaths: 100_100, overwrittenTotal: 100_000 })
  expect(merged.overwritten).toHaveLength(10_000)
  expect(readFileSync(join(at(volumeId, 2), 'd99/f999'), 'utf8')).toBe('yy')
  console.log(
    `100,000 files: as they are ${merging - asIs} ms, merged ${done - merging} ms (with 100,000 writes)`,
  )
  expect(done - merging).toBeLessThan(120_000)
}, 180_000)

interface Mounted {
  volumeId: VolumeId
  sandboxId: SandboxId
  slot: string
  dir: string
  version: number
}

async function volume(): Promise<{ volumeId: VolumeId; writer: Mounted }> {
  const volumeId = newVolume()
  return { volumeId, writer: await mount(volumeId) }
}

async function mount(
  volumeId: VolumeId,
  options: { readOnly?: boolean; version?: number | null } = {},
): Promise<Mounted> {
  const { readOnly = false, version = null } = options
  const [sandboxId, slot] = [newSandbox(), 'vol0']
  const mounted = await pool.mountVolume({ volumeId, sandboxId, slot, readOnly, version })
  return { volumeId, sandboxId, slot, dir: mounted.path, version: mounted.version }
}

async function commit(from: Mounted, commitId = `c${serial++}`) {
  const { volumeId, sandboxId, slot } = from
  await pool.stageVolume({ volumeId, sandboxId, slot, commitId, trigger: 'commit' })
  return (await pool.commitStaged(volumeId, commitId))!
}

function at(volumeId: VolumeId, version: number): string {
  return join(disk.dir, 'volumes', volumeId, `v${version}`)
}

/** Every path with its content; a directory's ends with a slash. */
function tree(dir: string, prefix = ''): Record<string, string> {
  const all: Record<string, string> = {}
  for (const entry of readdirSync(dir, { withFileTypes: true })) {
    const name = prefix + entry.name
    if (entry.isDirectory()) Object.assign(all, { [`${name}/`]: '' }, tree(join(dir, entry.name), `${name}/`))
    else all[name] = readFileSync(join(dir, entry.name), 'utf8')
  }
  return all
}

function newVolume(): VolumeId {
  return makeId('vo', 1_700_000_000_000 + serial++, Buffer.alloc(10))
}

function newSandbox(): SandboxId {
  return makeId('sb', 1_700_000_000_000 + serial++, Buffer.alloc(10))
}
