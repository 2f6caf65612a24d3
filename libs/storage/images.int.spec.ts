import { execFileSync, spawn } from 'node:child_process'
import { createHash } from 'node:crypto'
import { once } from 'node:events'
import { existsSync, lstatSync, mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { gzipSync } from 'node:zlib'
import { afterAll, beforeAll, expect, test } from '@jest/globals'
import { type ImageId, makeId, type SandboxId } from '#libs/domain'
import { IMPORT_LIMITS, Pool, SPARES_PER_IMAGE } from './index.js'
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

test('an archive becomes a read-only image with its owners, modes, xattrs and hard links', async () => {
  const imageId = newImage()
  await importTar(
    imageId,
    tarOf(
      'plain',
      'mkdir -p bin; echo hi > bin/a; ln bin/a bin/b; chown 1000:1001 bin/a; chmod 4755 bin/a; setfattr -n user.k -v v bin/a 2>/dev/null || true; ln -s /etc/passwd link',
    ),
  )
  const dir = join(disk.dir, 'images', imageId)
  const stat = statSync(join(dir, 'bin/a'))
  expect([stat.mode & 0o7777, stat.uid, stat.gid, stat.nlink]).toEqual([0o4755, 1000, 1001, 2])
  expect(lstatSync(join(dir, 'link')).isSymbolicLink()).toBe(true)
  expect(() => writeFileSync(join(dir, 'new'), '')).toThrow(/EROFS/)
  expect(await pool.hasImage(imageId)).toBe(true)
  expect(await pool.listImages()).toContain(imageId)
})

for (const [name, pack] of [
  ['gzip', (tar: Buffer) => gzipSync(tar)],
  ['xz', (tar: Buffer) => execFileSync('xz', ['-0', '-c'], { input: tar, maxBuffer: 1 << 28 })],
  ['zstd', (tar: Buffer) => execFileSync('zstd', ['-1', '-c'], { input: tar, maxBuffer: 1 << 28 })],
] as const) {
  test(`an archive packed by ${name} is unpacked`, async () => {
    const imageId = newImage()
    await importTar(imageId, pack(tarOf(`packed-${name}`, 'echo hi > a')))
    expect(readFileSync(join(disk.dir, 'images', imageId, 'a'), 'utf8')).toBe('hi\n')
  })
}

test('an import of an image that is there already does nothing', async () => {
  const imageId = newImage()
  const tar = tarOf('twice', 'echo one > a')
  await importTar(imageId, tar)
  await importTar(imageId, tar)
  expect(readFileSync(join(disk.dir, 'images', imageId, 'a'), 'utf8')).toBe('one\n')
})

test('device nodes are dropped, pipes are kept', async () => {
  const imageId = newImage()
  await importTar(
    imageId,
    tarOf('devices', 'mkdir dev; mknod dev/disk b 7 0; mknod dev/null c 1 3; mkfifo pipe'),
  )
  const dir = join(disk.dir, 'images', imageId)
  expect(readdirSync(join(dir, 'dev'))).toEqual([])
  expect(lstatSync(join(dir, 'pipe')).isFIFO()).toBe(true)
})

test('no entry of a hostile archive lands outside the image', async () => {
  const outside = join(disk.scratch, 'outside')
  mkdirSync(outside)
  const made = execFileSync('python3', ['-c', HOSTILE_TAR, outside], { maxBuffer: 1 << 28 })
  const before = readdirSync('/tmp').filter((name) => name.startsWith('sandtrail-hostile'))
  const imageId = newImage()
  // tar may refuse some of it, which is as good as containing it.
  await importTar(imageId, made).catch((error) => expect(error.code).toBe('INVALID_ARGUMENT'))
  expect(readdirSync(outside)).toEqual([])
  expect(readdirSync('/tmp').filter((name) => name.startsWith('sandtrail-hostile'))).toEqual(before)
  expect(existsSync('/usr/sandtrail-hostile')).toBe(false)
  expect(readdirSync(disk.dir).some((name) => name.includes('hostile'))).toBe(false)
})

test('an archive with another digest is refused and leaves nothing', async () => {
  const imageId = newImage()
  const tar = tarOf('digest', 'echo hi > a')
  const wrong = { sha256: '0'.repeat(64), bytes: tar.length }
  await expect(pool.importImage(imageId, chunked(tar), wrong)).rejects.toMatchObject({
    code: 'INVALID_ARGUMENT',
  })
  expect(await pool.hasImage(imageId)).toBe(false)
  expect(readdirSync(join(disk.dir, 'tmp'))).toEqual([])
})

test('an archive cut off in the middle is refused', async () => {
  const imageId = newImage()
  const tar = tarOf('cut', 'head -c 300000 /dev/urandom > a')
  const part = tar.subarray(0, 150_000)
  await expect(pool.importImage(imageId, chunked(part), digestOf(part))).rejects.toMatchObject({
    code: 'INVALID_ARGUMENT',
  })
  expect(await pool.hasImage(imageId)).toBe(false)
})

test.each<[string, Buffer, string]>([
  ['no bytes', Buffer.alloc(0), 'This does not look like a tar archive'],
  ['a gzip of nothing', gzipSync(''), 'it has no entries'],
  ['an archive without entries', Buffer.alloc(10_240), 'it has no entries'],
  ['a text', Buffer.from('hello '.repeat(200)), 'This does not look like a tar archive'],
  ['a gzip of a text', gzipSync('hello '.repeat(200)), 'This does not look like a tar archive'],
  ['a gzip that is none', Buffer.concat([Buffer.from([0x1f, 0x8b]), Buffer.alloc(600)]), 'unknown method'],
])('%s is no image, and the error says why', async (_, bytes, why) => {
  const imageId = newImage()
  await expect(pool.importImage(imageId, chunked(bytes), digestOf(bytes))).rejects.toMatchObject({
    code: 'INVALID_ARGUMENT',
    message: expect.stringContaining(why),
  })
  expect(await pool.hasImage(imageId)).toBe(false)
})

test('a bomb stops at the limit of the tree, and an archive of too many entries at its own', async () => {
  const bomb = gzipSync(tarOf('bomb', 'head -c 60000000 /dev/zero > zeros'))
  const small = { ...IMPORT_LIMITS, treeBytesMax: 20_000_000 }
  await expect(pool.importImage(newImage(), chunked(bomb), digestOf(bomb), small)).rejects.toMatchObject({
    code: 'QUOTA_EXCEEDED',
  })
  const many = tarOf('many', 'for i in $(seq 300); do : > f$i; done')
  const few = { ...IMPORT_LIMITS, entriesMax: 100 }
  await expect(pool.importImage(newImage(), chunked(many), digestOf(many), few)).rejects.toMatchObject({
    code: 'PAYLOAD_TOO_LARGE',
  })
  const short = { ...IMPORT_LIMITS, archiveBytesMax: 1000 }
  await expect(pool.importImage(newImage(), chunked(many), digestOf(many), short)).rejects.toMatchObject({
    code: 'PAYLOAD_TOO_LARGE',
  })
  expect(readdirSync(join(disk.dir, 'tmp'))).toEqual([])
})

test.each([
  ['gzip', (tar: Buffer) => gzipSync(tar)],
  ['xz', (tar: Buffer) => execFileSync('xz', ['-1', '-c'], { input: tar, maxBuffer: 1 << 28 })],
] as const)(
  'a bomb packed by %s stops at the ratio of what it unpacks to, long before the tree is full',
  async (name, pack) => {
    const tar = tarOf(
      `ratio-${name}`,
      'head -c 90000000 /dev/zero > zeros; head -c 1000000 /dev/urandom > rest',
    )
    const early = { ...IMPORT_LIMITS, ratioMax: 50, ratioFromBytes: 30_000_000 }
    await expect(
      pool.importImage(newImage(), chunked(pack(tar)), digestOf(pack(tar)), early),
    ).rejects.toMatchObject({
      code: 'PAYLOAD_TOO_LARGE',
      message: expect.stringContaining('more than 50 times'),
    })
    // What is as large and does not shrink passes, whatever the ratio counts from.
    const plain = { ...IMPORT_LIMITS, ratioMax: 50, ratioFromBytes: 0 }
    await pool.importImage(newImage(), chunked(tar), digestOf(tar), plain)
    expect(readdirSync(join(disk.dir, 'tmp'))).toEqual([])
  },
)

test('an archive that never comes to an end is given up, and its jail is gone', async () => {
  const tar = tarOf('slow', 'echo hi > a')
  async function* stalls() {
    yield tar.subarray(0, 600)
    await new Promise((resolve) => setTimeout(resolve, 1500))
    yield tar.subarray(600)
  }
  const limits = { ...IMPORT_LIMITS, timeoutMs: 300 }
  await expect(pool.importImage(newImage(), stalls(), digestOf(tar), limits)).rejects.toMatchObject({
    code: 'DEADLINE_EXCEEDED',
  })
})

test('a root is a writable copy with a quota of its own beyond its image', async () => {
  const imageId = newImage()
  await importTar(imageId, tarOf('quota', 'head -c 30000000 /dev/urandom > big'))
  const sandboxId = newSandbox()
  const root = await pool.createRoot(imageId, sandboxId, 20_000_000)
  expect(root).toBe(pool.rootPath(sandboxId))
  expect(await dd(join(root, 'fits'), 10)).toBe(0)
  expect(await dd(join(root, 'does-not'), 40)).not.toBe(0)
  expect(statSync(join(root, 'fits')).size).toBe(10 * 1024 ** 2)
  await pool.deleteRoot(sandboxId)
  await pool.deleteRoot(sandboxId)
  expect(await pool.listRoots()).not.toContain(sandboxId)
})

test('roots come from spares, which are made again', async () => {
  const imageId = newImage()
  await importTar(imageId, tarOf('spares', 'echo hi > a'))
  const spares = () => readdirSync(join(disk.dir, 'spare')).filter((name) => name.startsWith(imageId))
  expect(spares()).toHaveLength(SPARES_PER_IMAGE)
  const roots = Array.from({ length: SPARES_PER_IMAGE + 2 }, newSandbox)
  await Promise.all(roots.map((id) => pool.createRoot(imageId, id, 10_000_000)))
  for (const id of roots) expect(readFileSync(join(pool.rootPath(id), 'a'), 'utf8')).toBe('hi\n')
  await pool.prepareRoots(imageId)
  expect(spares()).toHaveLength(SPARES_PER_IMAGE)
  for (const id of roots) await pool.deleteRoot(id)
})

test('a root without its image is refused', async () => {
  await expect(pool.createRoot(newImage(), newSandbox(), 1)).rejects.toMatchObject({
    code: 'IMAGE_NOT_FOUND',
  })
})

test('a root that holds subvolumes and odd names goes whole', async () => {
  const imageId = newImage()
  await importTar(imageId, tarOf('odd', 'echo hi > a'))
  const sandboxId = newSandbox()
  const root = await pool.createRoot(imageId, sandboxId, 10_000_000)
  execFileSync('btrfs', ['subvolume', 'create', join(root, 'in ner')])
  execFileSync('btrfs', ['subvolume', 'create', join(root, 'in ner', 'line\nbreak')])
  await pool.deleteRoot(sandboxId)
  expect(existsSync(root)).toBe(false)
})

test('a snapshot of a root holds what was written, is read-only and starts new roots without the old quota', async () => {
  const base = newImage()
  await importTar(base, tarOf('snapshot', 'mkdir tmp'))
  const sandboxId = newSandbox()
  const root = await pool.createRoot(base, sandboxId, 20_000_000)
  expect(await dd(join(root, 'tmp/data'), 15)).toBe(0)
  const imageId = newImage()
  await pool.snapshotRoot(sandboxId, imageId)
  writeFileSync(join(root, 'tmp/later'), 'x')
  await pool.snapshotRoot(sandboxId, imageId)
  expect(readdirSync(join(disk.dir, 'images', imageId, 'tmp'))).toEqual(['data'])
  const second = newSandbox()
  const copy = await pool.createRoot(imageId, second, 50_000_000)
  expect(await dd(join(copy, 'more'), 40)).toBe(0)
  await pool.deleteRoot(sandboxId)
  await pool.removeImage(imageId)
  await pool.removeImage(imageId)
  expect(statSync(join(copy, 'tmp/data')).size).toBe(15 * 1024 ** 2)
  await pool.deleteRoot(second)
})

test('a sweep removes what a former process left and nobody owns, and nothing else', async () => {
  const imageId = newImage()
  await importTar(imageId, tarOf('sweep', 'echo hi > a'))
  const [kept, stray] = [newSandbox(), newSandbox()]
  for (const id of [kept, stray]) {
    await pool.createRoot(imageId, id, 10_000_000)
    await pool.slotsDir(id)
  }
  await pool.sweep({ sandboxes: new Set() })
  expect(await pool.listRoots()).toEqual([kept, stray])
  await pool.close()
  pool = await Pool.open(disk.dir)
  await pool.sweep({ sandboxes: new Set([kept]) })
  expect(await pool.listRoots()).toEqual([kept])
  expect(readdirSync(join(disk.dir, 'slots'))).toEqual([kept])
  expect(await pool.hasImage(imageId)).toBe(true)
})

test('a pool is not opened on another filesystem', async () => {
  await expect(Pool.open(disk.scratch)).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' })
})

const HOSTILE_TAR = `
import io, sys, tarfile
outside = sys.argv[1]
out = tarfile.open(fileobj=sys.stdout.buffer, mode='w|')
def file(name, data=b'x'):
    info = tarfile.TarInfo(name); info.size = len(data); out.addfile(info, io.BytesIO(data))
def link(name, to, kind=tarfile.SYMTYPE):
    info = tarfile.TarInfo(name); info.type = kind; info.linkname = to; out.addfile(info)
file('../../../../../../tmp/sandtrail-hostile-dots')
file('/tmp/sandtrail-hostile-absolute')
link('out', outside); file('out/through-symlink')
link('up', '../../../../../..'); file('up' + outside + '/through-dots')
link('usr', '/usr'); file('usr/sandtrail-hostile')
link('pool', '..'); file('pool/hostile')
link('hard', '/etc/passwd', tarfile.LNKTYPE); file('hard', b'root::0:0::/:/bin/sh')
link('.', outside); file('./dot')
file('name\\nwith newline'); file('-rf'); file('--checkpoint-action=exec=id')
out.close()
`

function tarOf(name: string, script: string): Buffer {
  const dir = join(disk.scratch, name)
  mkdirSync(dir)
  execFileSync('bash', ['-ec', script], { cwd: dir })
  return execFileSync('tar', ['-C', dir, '--xattrs', '-cf', '-', '.'], { maxBuffer: 1 << 28 })
}

function importTar(imageId: ImageId, tar: Buffer): Promise<void> {
  return pool.importImage(imageId, chunked(tar), digestOf(tar))
}

async function* chunked(bytes: Buffer): AsyncGenerator<Buffer> {
  for (let i = 0; i < bytes.length; i += 65_536) yield bytes.subarray(i, i + 65_536)
}

function digestOf(bytes: Buffer): { sha256: string; bytes: number } {
  return { sha256: createHash('sha256').update(bytes).digest('hex'), bytes: bytes.length }
}

async function dd(path: string, mib: number): Promise<number> {
  const child = spawn('dd', ['if=/dev/zero', `of=${path}`, 'bs=1M', `count=${mib}`, 'conv=fsync'], {
    stdio: 'ignore',
  })
  const [code] = await once(child, 'exit')
  return code as number
}

function newImage(): ImageId {
  return makeId('im', 1_700_000_000_000 + serial++, Buffer.alloc(10))
}

function newSandbox(): SandboxId {
  return makeId('sb', 1_700_000_000_000 + serial++, Buffer.alloc(10))
}
