import { expect, test } from '@jest/globals'
import { proposeWorkers, type WorkerLoad } from './placement.js'

const A = 'wk-01ARZ3NDEKTSV4RRFFQ69G5FAA' as const
const B = 'wk-01ARZ3NDEKTSV4RRFFQ69G5FAB' as const
const GIB = 1024 ** 3
const room = { cpuMillis: 16_000, memoryBytes: 4 * GIB, diskBytes: 100 * GIB }
const worker = (workerId: typeof A | typeof B, change: Partial<WorkerLoad> = {}): WorkerLoad => ({
  workerId,
  active: true,
  free: room,
  poolFreeBytes: 50 * GIB,
  ...change,
})
const need = {
  resources: { cpuMillis: 125, memoryBytes: GIB, diskBytes: GIB },
  image: { ref: 'base:latest', replicas: [A, B] },
  volumes: [],
}
const volume = (home: typeof A | typeof B) => ({
  volumeId: 'vo-01ARZ3NDEKTSV4RRFFQ69G5FAV' as const,
  name: 'data',
  path: '/data',
  readOnly: false,
  version: null,
  home,
})

test('the worker with the most free memory comes first', () => {
  const small = worker(A, { free: { ...room, memoryBytes: 2 * GIB } })
  expect(proposeWorkers([small, worker(B)], need)).toEqual([B, A])
})

test('a worker that is away or cordoned is not proposed', () => {
  expect(proposeWorkers([worker(A, { active: false }), worker(B)], need)).toEqual([B])
})

test('it goes where its volume is', () => {
  expect(proposeWorkers([worker(A), worker(B)], { ...need, volumes: [volume(A)] })).toEqual([A])
})

test('an image and a volume that lie apart are refused, and the refusal says what is where', () => {
  const apart = { ...need, image: { ref: 'im', replicas: [A] }, volumes: [volume(B)] }
  expect(() => proposeWorkers([worker(A), worker(B)], apart)).toThrow(
    expect.objectContaining({
      code: 'MISPLACED',
      message: expect.stringContaining(`volume data is on ${B}`),
    }),
  )
})

test.each([
  ['memory', { free: { ...room, memoryBytes: GIB - 1 } }],
  ['cpu', { free: { ...room, cpuMillis: 124 } }],
  ['disk', { free: { ...room, diskBytes: GIB - 1 } }],
  ['pool space', { poolFreeBytes: GIB - 1 }],
])('too little %s is told as no capacity', (_, change) => {
  expect(() => proposeWorkers([worker(A, change)], need)).toThrow(
    expect.objectContaining({ code: 'NO_CAPACITY' }),
  )
})
