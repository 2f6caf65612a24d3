/** Follows an exec that prints 200 lines within 6 seconds, and prints them. */

import { ModalClient } from 'modal'

const modal = new ModalClient()
const app = await modal.apps.fromName('sdk-follow', { createIfMissing: true })
const sandbox = await modal.sandboxes.create(app, modal.images.fromRegistry('base'))
const exec = await sandbox.exec([
  'sh',
  '-c',
  'for i in $(seq 200); do echo line $i; sleep 0.03; done',
])
for await (const chunk of exec.stdout) process.stdout.write(chunk)
await sandbox.terminate()
process.exit(await exec.wait())
