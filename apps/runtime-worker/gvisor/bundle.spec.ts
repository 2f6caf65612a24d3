import { expect, test } from '@jest/globals'
import type { SandboxId, SandboxSpec } from '#libs/domain'
import { type BundleInput, etcFiles, hostnameOf, ociSpec } from './bundle.js'

const sandboxId: SandboxId = 'sb-01J0000000000000000000000A'

interface Mount {
  destination: string
  source: string
  type: string
  options?: string[]
}
interface Config {
  process: { env: string[]; args: string[]; capabilities: Record<string, string[]> }
  root: { path: string }
  mounts: Mount[]
  linux: { namespaces: { type: string; path?: string }[]; cgroupsPath: string }
}

function configOf(input: Partial<BundleInput> = {}): Config {
  const spec = { name: null, resources: { memoryBytes: 1024 } } as unknown as SandboxSpec
  return ociSpec({
    sandboxId,
    spec,
    token: 'the-token',
    paths: {
      root: '/pool/root',
      agentBinary: '/opt/agent',
      sockets: '/s/sockets',
      slots: '/pool/slots',
      etc: '/s/etc',
    },
    bindTmp: true,
    cgroupName: 'sandtrail-abcdef/sb',
    netnsPath: null,
    ...input,
  }) as Config
}

const fromHost = ({ mounts }: Config) => mounts.filter(({ type }) => type === 'bind')

test('a guest may write to nothing of the host but its root, its /tmp and its slots', () => {
  const writable = fromHost(configOf({ netnsPath: '/run/netns/x' })).filter(
    ({ options }) => !options?.includes('ro'),
  )
  expect(writable.map(({ source }) => source)).toEqual(['/pool/root/tmp', '/pool/slots'])
})

test('the token stands in the environment of the agent and nowhere else', () => {
  const { process, ...rest } = configOf()
  expect(process.env).toContain('SANDTRAIL_AGENT_TOKEN=the-token')
  expect(JSON.stringify({ ...rest, args: process.args })).not.toContain('the-token')
})

test('a /tmp that is no directory is not bound', () => {
  expect(fromHost(configOf({ bindTmp: false })).map(({ destination }) => destination)).not.toContain('/tmp')
})

test('a resolver is named only where there is a network', () => {
  const resolvConf = (config: Config) =>
    fromHost(config).some(({ destination }) => destination === '/etc/resolv.conf')
  expect(resolvConf(configOf())).toBe(false)
  const open = configOf({ netnsPath: '/run/netns/x' })
  expect(resolvConf(open)).toBe(true)
  expect(open.linux.namespaces).toContainEqual({ type: 'network', path: '/run/netns/x' })
  expect(etcFiles('box', null)).not.toHaveProperty('resolv.conf')
  expect(etcFiles('box', { address: '10.200.0.2', gateway: '10.200.0.1' })).toEqual({
    hosts: '127.0.0.1 localhost\n10.200.0.2 box\n',
    hostname: 'box\n',
    'resolv.conf': 'nameserver 10.200.0.1\noptions edns0\n',
  })
})

test('a guest cannot set up networks or load modules', () => {
  for (const set of Object.values(configOf().process.capabilities)) {
    for (const capability of ['CAP_NET_ADMIN', 'CAP_SYS_MODULE', 'CAP_SYS_RAWIO', 'CAP_BPF']) {
      expect(set).not.toContain(capability)
    }
  }
})

test.each([
  ['my-box', 'my-box'],
  ['My Box!', 'my-box'],
  ['--x--', 'x'],
  ['ünï', 'n'],
  ['!!!', sandboxId.toLowerCase()],
  [null, sandboxId.toLowerCase()],
  [`${'a'.repeat(62)}!b`, 'a'.repeat(62)],
])('the hostname of %s is %s', (name, hostname) => {
  expect(hostnameOf(sandboxId, name)).toBe(hostname)
})
