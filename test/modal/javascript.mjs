/** The main job by the official JavaScript SDK, of the generation that MODAL_SANDBOX_V2 says. Prints what holds. */

import assert from 'node:assert/strict'
import { AlreadyExistsError, ModalClient, NotFoundError, SandboxFilesystemNotFoundError } from 'modal'

const generation = process.env.MODAL_SANDBOX_V2 === '0' ? 1 : 2
const modal = new ModalClient()
const app = await modal.apps.fromName('sdk-javascript', { createIfMissing: true })
const image = modal.images.fromRegistry('base')

/** @param {string} what @param {() => Promise<void>} check */
async function holds(what, check) {
  await check()
  console.log(`holds: ${what}`)
}

const sandbox = await modal.sandboxes.create(app, image, {
  command: ['sleep', '600'],
  env: { GREETING: 'hello' },
  secrets: [await modal.secrets.fromObject({ PASSWORD: 'swordfish' })],
  workdir: '/tmp',
  timeoutMs: 300_000,
})

await holds('the id has the shape of its generation', async () => {
  assert.match(sandbox.sandboxId, generation === 1 ? /^sb-[0-9A-Za-z]{22}$/ : /^sb-[0-9A-Z]{26}$/)
})

await holds('an exec has its output, its errors and its exit code', async () => {
  const process = await sandbox.exec(['sh', '-c', 'echo $GREETING $PASSWORD; pwd; echo oops >&2; exit 3'])
  assert.equal(await process.stdout.readText(), 'hello swordfish\n/tmp\n')
  assert.equal(await process.stderr.readText(), 'oops\n')
  assert.equal(await process.wait(), 3)
})

await holds('an exec has variables and a directory of its own', async () => {
  const process = await sandbox.exec(['sh', '-c', 'echo $GREETING; pwd'], { env: { GREETING: 'bye' }, workdir: '/etc' })
  assert.equal(await process.stdout.readText(), 'bye\n/etc\n')
})

await holds('what is written to stdin arrives, and its end too', async () => {
  const process = await sandbox.exec(['cat'])
  await process.stdin.writeText('one\n')
  await process.stdin.writeText('two\n')
  await process.stdin.close()
  assert.equal(await process.stdout.readText(), 'one\ntwo\n')
  assert.equal(await process.wait(), 0)
})

await holds('8 MiB of bytes come out as they went in, also when they are read after the end', async () => {
  const process = await sandbox.exec(['sh', '-c', 'head -c 8388608 /dev/zero | tr "\\0" "\\377"'], { mode: 'binary' })
  assert.equal(await process.wait(), 0)
  const bytes = await process.stdout.readBytes()
  assert.equal(bytes.length, 8_388_608)
  assert.ok(bytes.every((byte) => byte === 255))
})

await holds('an exec that takes too long is killed', async () => {
  const process = await sandbox.exec(['sleep', '60'], { timeoutMs: 1_000 })
  assert.equal(await process.wait(), 137)
})

await holds('a terminal is one', async () => {
  const process = await sandbox.exec(['sh', '-c', 'tty >/dev/null && echo $TERM'], { pty: true })
  assert.match(await process.stdout.readText(), /xterm-256color\r\n/)
})

await holds('files are written, read, listed and removed', async () => {
  const { filesystem } = sandbox
  await filesystem.makeDirectory('/root/dir')
  await filesystem.writeText('text ✓', '/root/dir/file')
  assert.equal(await filesystem.readText('/root/dir/file'), 'text ✓')
  assert.deepEqual((await filesystem.listFiles('/root/dir')).map(({ name }) => name), ['file'])
  await filesystem.remove('/root/dir', { recursive: true })
  await assert.rejects(filesystem.readText('/root/dir/file'), SandboxFilesystemNotFoundError)
})

await holds('a name and tags find a sandbox', async () => {
  const named = await modal.sandboxes.create(app, image, { command: ['sleep', '600'], name: `web-${generation}`, tags: { tier: 'one' } })
  await assert.rejects(
    modal.sandboxes.create(app, image, { command: ['true'], name: `web-${generation}` }),
    AlreadyExistsError,
  )
  assert.equal((await modal.sandboxes.fromName('sdk-javascript', `web-${generation}`)).sandboxId, named.sandboxId)
  await named.setTags({ tier: 'two', run: `${generation}` })
  assert.deepEqual(await named.getTags(), { tier: 'two', run: `${generation}` })
  const found = []
  for await (const each of modal.sandboxes.list({ appId: app.appId, tags: { run: `${generation}` } })) found.push(each.sandboxId)
  assert.deepEqual(found, [named.sandboxId])
  await named.terminate({ wait: true })
  await assert.rejects(modal.sandboxes.fromName('sdk-javascript', `web-${generation}`), NotFoundError)
})

await holds('the main process can be talked to', async () => {
  const talker = await modal.sandboxes.create(app, image, { command: ['sh', '-c', 'read line; echo "got $line"; echo ü'] })
  await talker.stdin.writeText('this\n')
  assert.equal(await talker.stdout.readText(), 'got this\nü\n')
  assert.equal(await talker.wait(), 0)
})

await holds('a volume keeps what is written to it', async () => {
  const volume = await modal.volumes.fromName(`data-${generation}`, { createIfMissing: true })
  const writer = await modal.sandboxes.create(app, image, { command: ['sh', '-c', 'echo saved > /data/file'], volumes: { '/data': volume } })
  assert.equal(await writer.wait(), 0)
  const reader = await modal.sandboxes.create(app, image, { command: ['cat', '/data/file'], volumes: { '/data': volume.withMountOptions({ readOnly: true }) } })
  assert.equal(await reader.stdout.readText(), 'saved\n')
})

await holds('a snapshot is an image to start from', async () => {
  await (await sandbox.exec(['sh', '-c', 'echo kept > /root/file'])).wait()
  const snapshot = await sandbox.snapshotFilesystem()
  const second = await modal.sandboxes.create(app, snapshot, { command: ['cat', '/root/file'] })
  assert.equal(await second.wait(), 0)
  assert.equal(await second.stdout.readText(), 'kept\n')
})

await holds('what is not there yet is refused, not ignored', async () => {
  await assert.rejects(modal.sandboxes.create(app, image, { encryptedPorts: [443] }), /open_ports is not supported/)
  await assert.rejects(modal.sandboxes.create(app, image, { gpu: 'T4' }), /gpu is not supported/)
  await assert.rejects(modal.sandboxes.create(app, image, { cloud: 'invalid-cloud' }), /INVALID_ARGUMENT/)
  await assert.rejects(modal.sandboxes.create(app, modal.images.fromRegistry('nobody/knows:1')), /nothing is pulled/)
})

await holds('what does not exist is not found', async () => {
  await assert.rejects(modal.secrets.fromName('no-such-secret'), NotFoundError)
  await assert.rejects(modal.images.fromId('im-none'), NotFoundError)
})

await holds('a sandbox ends when it is told to', async () => {
  assert.equal(await sandbox.poll(), null)
  await sandbox.terminate({ wait: true })
  assert.equal(await sandbox.poll(), 137)
})

await holds('the main process has its exit code', async () => {
  const short = await modal.sandboxes.create(app, image, { command: ['sh', '-c', 'exit 7'] })
  assert.equal(await short.wait(), 7)
})

console.log(`sandbox ${sandbox.sandboxId}`)
process.exit(0)
