import { readFileSync, statSync } from 'node:fs'
import { access, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, afterEach, beforeAll, expect, test } from '@jest/globals'
import { type ImageId, makeId, type SandboxId, type VolumeId } from '#libs/domain'
import { Pool } from '#libs/storage'
import { isUnified, oomKillsOf, processesOf } from '../cgroup/index.js'
import { run } from '../host/command.js'
import { until } from '../host/wait.js'
import type { RunningSandbox } from '../runtime.js'
import { CREATION_STEPS } from './creation.js'
import type { GvisorDriver } from './driver.js'
import { type GvisorHost, makeGvisorHost, shell, startShell, type TestRequest } from './testing.js'

let host: GvisorHost
const drivers: GvisorDriver[] = []
const requests: TestRequest[] = []

beforeAll(async () => {
  host = await makeGvisorHost()
}, 120_000)
afterAll(() => host?.remove())

/** After each test its sandboxes are ended; then nothing at all is left of this instance on the host. */
afterEach(async () => {
  const last = makeDriver()
  for (const { sandboxId, dir } of requests.splice(0)) expect(await last.destroy(sandboxId, dir)).toEqual([])
  for (const driver of drivers.splice(0)) await driver.stop()
  expect(await host.inventory()).toEqual([])
  expect(await host.pool.listRoots()).toEqual([])
}, 60_000)

const never = new AbortController().signal
const MiB = 1024 ** 2

function makeDriver(extra: Parameters<GvisorHost['driver']>[0] = {}): GvisorDriver {
  const driver = host.driver(extra)
  drivers.push(driver)
  return driver
}

function makeRequest(spec: Parameters<GvisorHost['request']>[0] = {}): TestRequest {
  const request = host.request(spec)
  requests.push(request)
  return request
}

async function started(
  spec: Parameters<GvisorHost['request']>[0] = {},
): Promise<{ driver: GvisorDriver; request: TestRequest; running: RunningSandbox }> {
  const [driver, request] = [makeDriver(), makeRequest(spec)]
  return { driver, request, running: await driver.create(request, never) }
}

const cgroupOf = ({ sandboxId }: TestRequest) => `sandtrail-${host.instance}/${sandboxId}`
const exists = (path: string) =>
  access(path).then(
    () => true,
    () => false,
  )

test('the probe finds that this host runs gVisor', async () => {
  await makeDriver().probe()
})

test('the probe says what to do when there is no runsc', async () => {
  await expect(makeDriver({ runsc: '/nowhere/runsc' }).probe()).rejects.toMatchObject({
    code: 'UNAVAILABLE',
    hint: expect.stringContaining('SANDTRAIL_RUNSC'),
  })
})

test('a guest sees its own name, memory and files, and no interface but lo', async () => {
  const { request, running } = await started({
    name: 'Web Server!',
    resources: { cpuMillis: 500, memoryBytes: 384 * MiB, diskBytes: 1024 * MiB },
  })
  const see = async (script: string) => (await shell(running, request, script)).stdout
  expect(await see('hostname; cat /etc/hostname')).toBe('web-server\nweb-server')
  expect(await see('grep MemTotal /proc/meminfo')).toMatch(new RegExp(` ${384 * 1024} kB$`))
  expect(await see('ls /sys/class/net; tail -n +3 /proc/net/dev | cut -d: -f1 | tr -d " "')).toBe('lo')
  expect(await see('df -k /dev/shm | tail -1')).toContain(` ${192 * 1024} `)
  expect(await see('id -u; echo $SANDTRAIL_AGENT_TOKEN')).toBe('0')
  expect(await see('ls /proc | grep -c "^[0-9]"')).toMatch(/^[1-9]$/)
})

test('the share and the limit of CPU hold once a sandbox has started', async () => {
  const { request, running } = await started({
    resources: { cpuMillis: 250, memoryBytes: 256 * MiB, diskBytes: 1024 * MiB },
    cpuLimitMillis: 500,
  })
  const value = (controller: string, file: string) =>
    readFileSync(join('/sys/fs/cgroup', isUnified ? '' : controller, cgroupOf(request), file), 'utf8').trim()
  expect(isUnified ? value('cpu', 'cpu.weight') : value('cpu', 'cpu.shares')).toBe(isUnified ? '25' : '256')
  expect(isUnified ? value('cpu', 'cpu.max') : value('cpu', 'cpu.cfs_quota_us')).toMatch(/^50000\b/)
  // The guest's own clock of CPU time does not know what it was denied: the host's account does.
  const usedMs = () =>
    isUnified
      ? Number(/^usage_usec (\d+)$/m.exec(value('cpu', 'cpu.stat'))?.[1]) / 1e3
      : Number(value('cpuacct', 'cpuacct.usage')) / 1e6
  const [used, begin] = [usedMs(), performance.now()]
  await shell(running, request, 'timeout 2 sh -c "while :; do :; done"')
  expect((usedMs() - used) / (performance.now() - begin)).toBeLessThan(0.6)
})

test('what a guest writes to /tmp and / is in its root', async () => {
  const { request, running } = await started()
  await shell(running, request, 'echo t > /tmp/t; echo r > /root/r; sync')
  const root = host.pool.rootPath(request.sandboxId)
  expect(await readFile(join(root, 'tmp/t'), 'utf8')).toBe('t\n')
  expect(await readFile(join(root, 'root/r'), 'utf8')).toBe('r\n')
})

test('what the host lends to a guest is read-only', async () => {
  const { request, running } = await started()
  for (const path of ['/__modal/x', '/.sandtrail/agent', '/etc/hosts', '/etc/hostname']) {
    const { code, stderr } = await shell(running, request, `echo x > ${path}`)
    expect([path, code, stderr]).toEqual([path, 2, expect.stringContaining('Read-only file system')])
  }
})

test('a link in an image in place of /tmp is not followed on the host', async () => {
  const first = await started()
  await shell(first.running, first.request, `rm -rf /tmp && ln -s ${host.stateDir} /tmp; sync`)
  const imageId = makeId('im', Date.now(), crypto.getRandomValues(new Uint8Array(10))) as ImageId
  await host.pool.snapshotRoot(first.request.sandboxId, imageId)
  const second = await started({ image: { imageId, ref: 'hostile' } })
  const { stdout } = await shell(second.running, second.request, 'echo x > /tmp/escaped; ls /tmp/')
  expect(stdout).not.toContain('sandboxes')
  expect(await exists(join(host.stateDir, 'escaped'))).toBe(false)
  await host.pool.removeImage(imageId)
})

test('volumes are bound at their paths, read-only ones so', async () => {
  const [volumeId, other] = ['vo-01J0000000000000000000000A', 'vo-01J0000000000000000000000B'] as VolumeId[]
  const { request, running } = await started({
    volumes: [
      { volumeId: volumeId!, name: 'data', path: '/data', readOnly: false, version: null },
      { volumeId: other!, name: 'other', path: '/mnt/deep/other', readOnly: true, version: null },
    ],
  })
  expect(running.volumes).toEqual([
    { volumeId, version: 0, slot: 'v0', path: '/data', readOnly: false },
    { volumeId: other, version: 0, slot: 'v1', path: '/mnt/deep/other', readOnly: true },
  ])
  expect((await shell(running, request, 'echo kept > /data/f; sync; cat /data/f')).stdout).toBe('kept')
  expect((await shell(running, request, 'echo no > /mnt/deep/other/f')).stderr).toContain('Read-only')
  await host.pool.stageVolume({
    volumeId: volumeId!,
    sandboxId: request.sandboxId,
    slot: 'v0',
    commitId: 'end-1',
    trigger: 'sandbox-end',
  })
  expect((await host.pool.commitStaged(volumeId!, 'end-1'))?.version).toBe(1)
})

for (const step of CREATION_STEPS) {
  test(`a failure at "${step}" leaves the host as it was`, async () => {
    const beforeStep = (begun: string) => {
      if (begun === step) throw new Error('injected')
    }
    const [driver, request] = [makeDriver({ beforeStep }), makeRequest()]
    await expect(driver.create(request, never)).rejects.toMatchObject({
      step,
      code: 'RUNTIME_FAILED',
      message: 'injected',
    })
    await driver.stop()
    expect(await host.inventory()).toEqual([])
    expect(await host.pool.listRoots()).toEqual([])
    expect(await exists(join(request.dir, 'runtime'))).toBe(false)
  })

  test(`a terminate that overtakes a create at "${step}" leaves the host as it was`, async () => {
    const abort = new AbortController()
    const beforeStep = (begun: string) => {
      if (begun === step) abort.abort(new Error('terminated'))
    }
    const [driver, request] = [makeDriver({ beforeStep }), makeRequest()]
    await expect(driver.create(request, abort.signal)).rejects.toMatchObject({ code: 'CREATE_ABORTED' })
    await driver.stop()
    expect(await host.inventory()).toEqual([])
  })

  test(`a worker that dies at "${step}" has left records by which its successor undoes it`, async () => {
    const [reached, dead] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()]
    const beforeStep = (begun: string) => {
      if (begun !== step) return
      reached.resolve()
      return dead.promise // As if killed there: nothing after it runs until the test is over.
    }
    const request = makeRequest()
    const create = makeDriver({ beforeStep }).create(request, never)
    await reached.promise
    const next = makeDriver()
    expect(await next.adopt(request)).toBeNull()
    // Steps beside it may have been under way in the dead worker and still end here: undone when they have.
    const undone = async () => {
      if ((await next.destroy(request.sandboxId, request.dir)).length > 0) return false
      await next.sweep(new Set())
      return (await host.pool.listRoots()).length === 0 && processesOf(cgroupOf(request)).length === 0
    }
    expect(await until(undone, { timeoutMs: 10_000, everyMs: 50 })).toBe(true)
    dead.reject(new Error('the test is over'))
    await expect(create).rejects.toThrow('the test is over')
  })
}

test('a worker’s next life finds a sandbox again: the same process inside, and no output lost', async () => {
  const { driver, request, running } = await started()
  const script =
    'echo $$; i=0; while [ $i -lt 2000 ]; do i=$((i+1)); echo $i; [ -e /tmp/stop ] && break; done; sleep 60'
  const execId = await startShell(running, request, script)
  expect(
    await until(() => request.output.of(execId, 'stdout').includes('\n9\n'), { timeoutMs: 10_000 }),
  ).toBe(true)
  await driver.stop()

  const next = makeDriver()
  const adopted = await next.adopt(request)
  expect(adopted).not.toBeNull()
  expect(adopted!.volumes).toEqual([])
  const count = () => request.output.of(execId, 'stdout').trim().split('\n').map(Number)
  expect(await until(() => count().at(-1) === 2000, { timeoutMs: 20_000, everyMs: 50 })).toBe(true)
  expect(count().slice(1)).toEqual(Array.from({ length: 2000 }, (_, i) => i + 1))
  const pid = count()[0]
  const { stdout } = await shell(adopted!, request, `tr '\\0' ' ' < /proc/${pid}/cmdline`)
  expect(stdout).toContain('/bin/sh -c')
})

test('the token of an agent is in no file that others can read, and in no argument', async () => {
  const { request } = await started()
  const { token } = JSON.parse(await readFile(join(request.dir, 'runtime/record.json'), 'utf8')) as {
    token: string
  }
  const holders = (
    await run('grep', ['-rlF', '--exclude=null-netns', token, host.stateDir], { timeoutMs: 10_000 })
  )
    .trim()
    .split('\n')
  expect(holders.length).toBeGreaterThan(1)
  for (const file of holders) {
    // Closed to others itself, or below a directory that is.
    const parts = file.slice(host.stateDir.length + 1).split('/')
    const modes = parts.map((_, i) => statSync(join(host.stateDir, ...parts.slice(0, i + 1))).mode & 0o077)
    expect(modes).toContain(0)
  }
  for (const pid of processesOf(cgroupOf(request))) {
    expect(await readFile(`/proc/${pid}/cmdline`, 'utf8')).not.toContain(token)
  }
})

test('a sandbox of another epoch is not taken for the one that is asked for', async () => {
  const { driver, request } = await started()
  await driver.stop()
  expect(await makeDriver().adopt({ ...request, epoch: 2 })).toBeNull()
})

test('a death from outside is noticed, and is no longer adopted', async () => {
  const { driver, request, running } = await started()
  process.kill(Number(await readFile(join(request.dir, 'runtime/pid'), 'utf8')), 'SIGKILL')
  expect(await running.exited).toMatchObject({ kind: 'gone' })
  await driver.stop()
  expect(await makeDriver().adopt(request)).toBeNull()
})

test('a guest without memory left ends by that reason, known also after a restart', async () => {
  const { driver, request, running } = await started({
    resources: { cpuMillis: 500, memoryBytes: 128 * MiB, diskBytes: 1024 * MiB },
  })
  await startShell(running, request, 'exec tail /dev/zero')
  expect(await running.exited).toEqual({ kind: 'out-of-memory' })
  expect(oomKillsOf(cgroupOf(request))).toBeGreaterThan(0)
  await driver.stop()
  expect(await makeDriver().postMortem(request.sandboxId)).toEqual({ kind: 'out-of-memory' })
})

test('a full disk is an error inside, and what was written before stays', async () => {
  const { request, running } = await started({ diskLimitBytes: 32 * MiB })
  const { stderr } = await shell(
    running,
    request,
    'echo before > /root/before; dd if=/dev/urandom of=/root/big bs=1M count=64 2>&1 >/dev/null | grep -o "Disk quota exceeded" >&2',
  )
  expect(stderr).toBe('Disk quota exceeded')
  expect((await shell(running, request, 'cat /root/before')).stdout).toBe('before')
})

test('a fork bomb meets its limit and is ended with its sandbox', async () => {
  const { driver, request, running } = await started()
  await startShell(running, request, 'while :; do sleep 60 & done')
  expect(await until(() => processesOf(cgroupOf(request)).length > 60, { timeoutMs: 20_000 })).toBe(true)
  expect(processesOf(cgroupOf(request)).length).toBeLessThanOrEqual(4096)
  await running.kill(0)
  expect(processesOf(cgroupOf(request))).toEqual([])
  expect(await driver.destroy(request.sandboxId, request.dir)).toEqual([])
}, 60_000)

test('a stop gives the guest its grace', async () => {
  const { request, running } = await started()
  const script = 'trap "echo bye > /root/bye; exit 0" TERM; echo ready; while :; do sleep 0.05; done'
  const execId = await startShell(running, request, script)
  void request.output.end(execId).promise.then(() => running.agent.acknowledgeExit(execId))
  const isReady = () => request.output.of(execId, 'stdout') === 'ready\n'
  expect(await until(isReady, { timeoutMs: 10_000 })).toBe(true)
  await running.kill(5_000)
  expect(await readFile(join(host.pool.rootPath(request.sandboxId), 'root/bye'), 'utf8')).toBe('bye\n')
  expect((await request.output.end(execId).promise).code).toBe(0)
})

test('a runsc that hangs holds up no teardown for long', async () => {
  const { driver, request } = await started()
  await driver.stop()
  const stub = join(host.stateDir, 'runsc-that-hangs')
  await writeFile(stub, '#!/bin/sh\nexec sleep 1000\n', { mode: 0o755 })
  // Long before the stub ends by itself.
  expect(await makeDriver({ runsc: stub }).destroy(request.sandboxId, request.dir)).toEqual([])
}, 60_000)

test('a sweep ends what no record owns, and nothing else', async () => {
  const lost = await started()
  const kept = await started()
  for (const { driver } of [lost, kept]) await driver.stop()
  // A pool of the new life, too: it never sweeps what was made in its own.
  const pool = await Pool.open(host.pool.dir)
  const next = makeDriver({ pool })
  const running = await next.adopt(kept.request)
  await next.sweep(new Set<SandboxId>([kept.request.sandboxId]))
  expect(processesOf(cgroupOf(lost.request))).toEqual([])
  expect(await host.pool.listRoots()).toEqual([kept.request.sandboxId])
  expect((await shell(running!, kept.request, 'echo alive')).stdout).toBe('alive')
  await pool.close()
})

test('an end can be asked for any number of times', async () => {
  const { driver, request } = await started()
  const ends = [1, 2, 3].map(() => driver.destroy(request.sandboxId, request.dir))
  expect(await Promise.all(ends)).toEqual([[], [], []])
  expect(await driver.destroy(request.sandboxId, request.dir)).toEqual([])
})
