/**
 * For tests only: what an append promises, as a suite for every store that claims to keep it: Postgres, and the model
 * of it that the simulation stands on.
 */

import { afterAll, beforeAll, describe, expect, test } from '@jest/globals'
import { Rejected } from '#libs/domain'
import { append, findCommand } from './append.js'
import type { Database } from './database.js'
import { commandHash, hashEvent, NO_HASH } from './envelope.js'
import { load } from './load.js'
import { readStream } from './read.js'
import { rejectCommand, rejectionStream } from './reject.js'
import { findClaim } from './statements/claims.js'
import { ensureTenant, findTenant, setTenantLimits } from './tables/tenants.js'
import { findWorker, loseWorker, upsertWorker } from './tables/workers.js'
import { command, event, meta, request, sandboxId } from './testing-requests.js'
import type { JsonObject } from './types.js'

export interface Store {
  pool: Database
  drop(): Promise<void>
}

export function appendContract(open: () => Promise<Store>): void {
  let db: Store
  beforeAll(async () => {
    db = await open()
  })
  afterAll(() => db.drop())

  describe('append', () => {
    test('writes events that read back as they were given, chained by hash', async () => {
      const stream = sandboxId()
      const data = { text: 'ü \u2028 "', number: 0.1, big: 1e21, nested: [{ a: null }, true], __proto: 1 }
      const sealed = Buffer.from([0, 255, 1])
      const events = [
        { ...event('Created', data), sealed },
        { ...event('Placed'), typeVersion: 2 },
      ]
      const given = request({ writes: [{ stream, expectedVersion: 0, events }] })
      const committed: number[] = []

      expect(await append(db.pool, given, (n) => committed.push(n))).toEqual({
        outcome: 'appended',
        versions: { [stream]: 2 },
      })
      const read = await readStream(db.pool, stream)
      expect(committed).toEqual([2])
      expect(read).toMatchObject([
        { version: 1, type: 'Created', typeVersion: 1, data, sealed, at: given.at, position: null },
        { version: 2, type: 'Placed', typeVersion: 2, sealed: null, meta: { commandId: given.command.id } },
      ])
      expect(read[0]?.prevHash).toEqual(NO_HASH)
      expect(read[1]?.prevHash).toEqual(read[0]?.hash)
      for (const each of read) expect(hashEvent(each)).toEqual(each.hash)
    })

    test('lets one of eight writers of the same version win, and tells the others of the conflict', async () => {
      const stream = sandboxId()
      await append(db.pool, request({ stream }))
      const racers = Array.from({ length: 8 }, () =>
        append(db.pool, request({ writes: [{ stream, expectedVersion: 1, events: [event()] }] })),
      )
      const outcomes = (await Promise.all(racers)).map((result) => result.outcome).sort()
      expect(outcomes).toEqual(['appended', ...Array(7).fill('conflict')])
      expect(await readStream(db.pool, stream)).toHaveLength(2)
    })

    test('of many at once each hears what it would have heard alone', async () => {
      const taken = sandboxId()
      const [name, execId] = [sandboxId(), sandboxId()]
      await append(db.pool, request({ stream: taken }))
      const known = request()
      await append(db.pool, known)
      const claim = { kind: 'name', key: name, holder: 'other' }
      await append(db.pool, request({ claims: { take: [claim] } }))
      const live = { action: 'require' as const, sandboxId: sandboxId(), open: true }
      const fresh = Array.from({ length: 40 }, () =>
        request({ execSlot: { action: 'take', execId: sandboxId() } }),
      )
      const given = [
        ...fresh.slice(0, 15),
        request({ stream: taken }),
        known,
        request({ claims: { take: [{ ...claim, holder: 'me' }] } }),
        request({ live }),
        request({ command: { ...known.command, hash: commandHash('other', {}) } }),
        request({ command: { ...command(), expiresAt: new Date(0) } }),
        ...fresh.slice(15),
        request({ execSlot: { action: 'take', execId } }),
        request({ execSlot: { action: 'release', execId } }),
      ]
      const results = await Promise.all(given.map((each) => append(db.pool, each)))

      const refused = results.slice(15, 21)
      expect(refused).toMatchObject([
        { outcome: 'conflict', stream: taken },
        { outcome: 'duplicate', stored: { ok: true } },
        { outcome: 'claim-taken' },
        { outcome: 'fenced', reason: 'absent' },
        { outcome: 'id-reused' },
        { outcome: 'expired' },
      ])
      for (const [i, each] of given.entries()) {
        if (i >= 15 && i < 21) continue
        const stream = each.writes[0]!.stream
        expect(results[i]).toEqual({ outcome: 'appended', versions: { [stream]: 1 } })
        expect(await readStream(db.pool, stream)).toHaveLength(1)
      }
      expect(await readStream(db.pool, taken)).toHaveLength(1)
    })

    test('eight writers that decide again after each conflict leave versions without a gap', async () => {
      const stream = sandboxId()
      const counter = { initial: 0, evolve: (n: number) => n + 1 }
      const write = async () => {
        for (;;) {
          const { version } = await load(db.pool, counter, stream)
          const result = await append(
            db.pool,
            request({ writes: [{ stream, expectedVersion: version, events: [event()] }] }),
          )
          if (result.outcome === 'appended') return
        }
      }
      await Promise.all(
        Array.from({ length: 8 }, async () => {
          for (let i = 0; i < 5; i++) await write()
        }),
      )
      const events = await readStream(db.pool, stream)
      expect(events.map((each) => each.version)).toEqual(Array.from({ length: 40 }, (_, i) => i + 1))
      expect(await load(db.pool, counter, stream)).toMatchObject({ state: 40, version: 40 })
    })

    test('the same command ten times at once has one effect and one outcome', async () => {
      const stream = sandboxId()
      const same = command()
      const results = await Promise.all(
        Array.from({ length: 10 }, (_, i) =>
          append(db.pool, request({ stream, command: same, outcome: { ok: true, attempt: i } })),
        ),
      )
      const stored = (await findCommand(db.pool, 'acme', same.id, same.hash)) as { stored: JsonObject }
      const others = results.filter((result) => result.outcome !== 'appended')
      expect(others).toEqual(Array(9).fill({ outcome: 'duplicate', stored: stored.stored }))
      expect(await readStream(db.pool, stream)).toHaveLength(1)
    })

    test('a re-send is a duplicate also when its stream has moved on', async () => {
      const first = request()
      await append(db.pool, first)
      const stream = first.writes[0]?.stream as string
      await append(db.pool, request({ writes: [{ stream, expectedVersion: 1, events: [event()] }] }))
      const again = request({
        command: first.command,
        writes: [{ stream, expectedVersion: 1, events: [event()] }],
      })
      expect(await append(db.pool, again)).toEqual({ outcome: 'duplicate', stored: { ok: true } })
    })

    test('the same id with another body is refused, in another tenant it is another command', async () => {
      const first = request()
      await append(db.pool, first)
      const other = { ...first.command, hash: commandHash('sandbox.create', { other: 1 }) }
      expect(await append(db.pool, request({ command: other }))).toEqual({ outcome: 'id-reused' })
      expect(await append(db.pool, request({ command: first.command, tenant: 'umbrella' }))).toMatchObject({
        outcome: 'appended',
      })
    })

    test('an expired command is refused and leaves nothing', async () => {
      const late = request({ command: { ...command(), expiresAt: new Date(Date.now() - 1) } })
      expect(await append(db.pool, late)).toEqual({ outcome: 'expired' })
      expect(await readStream(db.pool, late.writes[0]?.stream as string)).toEqual([])
    })

    test('writes several streams or none of them', async () => {
      const [a, b] = [sandboxId(), sandboxId()] as const
      await append(db.pool, request({ stream: a }))
      const writes = [
        { stream: b, expectedVersion: 0, events: [event(), event()] },
        { stream: a, expectedVersion: 0, events: [event()] },
      ]
      expect(await append(db.pool, request({ writes }))).toEqual({ outcome: 'conflict', stream: a })
      expect(await readStream(db.pool, b)).toEqual([])
      const right = writes.map((write) => (write.stream === a ? { ...write, expectedVersion: 1 } : write))
      expect(await append(db.pool, request({ writes: right }))).toEqual({
        outcome: 'appended',
        versions: { [a]: 2, [b]: 2 },
      })
    })

    const nested = () => {
      let value: JsonObject = {}
      for (let i = 0; i < 70; i++) value = { value }
      return value
    }
    const faults: [string, unknown][] = [
      ['a NUL', { a: ['x\0y'] }],
      ['a NUL in a key', { 'a\0': 1 }],
      ['a lone surrogate', { a: '\ud800' }],
      ['NaN', { a: Number.NaN }],
      ['Infinity', { a: Number.POSITIVE_INFINITY }],
      ['a bigint', { a: 1n }],
      ['a Date', { a: new Date() }],
      ['a Buffer', { a: Buffer.alloc(1) }],
      ['undefined in an array', { a: [undefined] }],
      ['a depth of 70', nested()],
    ]
    for (const [fault, data] of faults) {
      test(`refuses data with ${fault} before it reaches the database`, async () => {
        const bad = request({
          writes: [{ stream: sandboxId(), expectedVersion: 0, events: [event('Bad', data as JsonObject)] }],
        })
        await expect(append(db.pool, bad)).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' })
      })
    }

    test('refuses an event of more than 1 MiB', async () => {
      const events = [event('Big', { text: 'x'.repeat(1024 * 1024) })]
      const big = request({ writes: [{ stream: sandboxId(), expectedVersion: 0, events }] })
      await expect(append(db.pool, big)).rejects.toMatchObject({ code: 'PAYLOAD_TOO_LARGE' })
    })
  })

  describe('a rejection', () => {
    test('is stored as an event with its outcome, and heard again by each re-send', async () => {
      const rejection = {
        tenant: 'acme',
        command: command(),
        error: new Rejected('NAME_TAKEN', 'web is taken', { hint: 'choose another' }),
        meta: meta(),
        at: new Date(),
      }
      const error = { code: 'NAME_TAKEN', message: 'web is taken', hint: 'choose another', retryable: false }
      expect(await rejectCommand(db.pool, rejection)).toMatchObject({ outcome: 'appended' })
      expect(await rejectCommand(db.pool, rejection)).toEqual({ outcome: 'duplicate', stored: { error } })
      expect(await append(db.pool, request({ command: rejection.command }))).toEqual({
        outcome: 'duplicate',
        stored: { error },
      })
      const { id, verb } = rejection.command
      const [stored, ...rest] = await readStream(db.pool, rejectionStream('acme', id))
      expect(stored).toMatchObject({ type: 'CommandRejected', data: { verb, code: 'NAME_TAKEN' } })
      expect(rest).toEqual([])
    })
  })

  describe('claims', () => {
    const claim = (key: string, holder: string) => ({ kind: 'sandbox-name', key, holder })

    test('one of two takers gets the name, the other is told who has it wanted', async () => {
      const results = await Promise.all(
        ['sb-1', 'sb-2'].map((holder) =>
          append(db.pool, request({ claims: { take: [claim('web', holder)] } })),
        ),
      )
      expect(results.map((result) => result.outcome).sort()).toEqual(['appended', 'claim-taken'])
      const loser = results.find((result) => result.outcome === 'claim-taken')
      const winner = await findClaim(db.pool, 'acme', 'sandbox-name', 'web')
      expect(loser).toMatchObject({ claim: { key: 'web' } })
      expect(['sb-1', 'sb-2']).toContain(winner)
    })

    test('is free for others after its holder released it, and not when somebody else did', async () => {
      const take = (holder: string) => append(db.pool, request({ claims: { take: [claim('db', holder)] } }))
      const release = (holder: string) =>
        append(db.pool, request({ claims: { release: [claim('db', holder)] } }))
      await take('sb-a')
      expect(await take('sb-a')).toMatchObject({ outcome: 'appended' })
      await release('sb-b')
      expect(await take('sb-b')).toMatchObject({ outcome: 'claim-taken' })
      await release('sb-a')
      expect(await take('sb-b')).toMatchObject({ outcome: 'appended' })
    })

    test('of another tenant are not in the way', async () => {
      await append(db.pool, request({ claims: { take: [claim('api', 'sb-a')] } }))
      expect(
        await append(db.pool, request({ tenant: 'umbrella', claims: { take: [claim('api', 'sb-b')] } })),
      ).toMatchObject({ outcome: 'appended' })
    })
  })

  test('a sandbox that mounts a volume and the volume’s removal exclude each other, whoever comes first', async () => {
    for (let round = 0; round < 10; round++) {
      const [volumeId, id] = [`vo-${round}`, sandboxId()]
      const claim = { kind: 'volume-name', key: `data${round}`, holder: volumeId }
      await append(db.pool, request({ stream: volumeId, claims: { take: [claim] } }))
      const writes = [{ stream: volumeId, expectedVersion: 1, events: [event('VolumeRemoved')] }]
      const removal = request({ writes, claims: { release: [claim] }, unmounted: { volumeId } })
      const create = request({
        live: { action: 'open', sandboxId: id, workerId: 'wk-1', epoch: 1 },
        writes: [
          {
            stream: id,
            expectedVersion: 0,
            events: [event('Created', { spec: { volumes: [{ volumeId }] } })],
          },
        ],
        claims: { require: [claim] },
      })
      const both = round % 2 === 0 ? [removal, create] : [create, removal]
      const results = await Promise.all(both.map((one) => append(db.pool, one)))
      expect(results).toContainEqual({ outcome: 'conflict', stream: volumeId })
      expect(results).toContainEqual(expect.objectContaining({ outcome: 'appended' }))
    }
  })

  describe('the live row', () => {
    const place = async () => {
      const id = sandboxId()
      await append(db.pool, request({ live: { action: 'open', sandboxId: id, workerId: 'wk-1', epoch: 1 } }))
      return id
    }
    const require = (id: string, more: { workerId?: string; epoch?: number; open: boolean }) =>
      append(db.pool, request({ live: { action: 'require', sandboxId: id, ...more } }))

    test('fences a second placement', async () => {
      const id = await place()
      const second = request({ live: { action: 'open', sandboxId: id, workerId: 'wk-2', epoch: 2 } })
      expect(await append(db.pool, second)).toEqual({ outcome: 'fenced', reason: 'epoch' })
    })

    test('lets facts of its worker and epoch pass and fences all others', async () => {
      const id = await place()
      expect(await require(id, { workerId: 'wk-1', epoch: 1, open: false })).toMatchObject({
        outcome: 'appended',
      })
      expect(await require(id, { epoch: 2, open: false })).toEqual({ outcome: 'fenced', reason: 'epoch' })
      expect(await require(id, { workerId: 'wk-2', open: false })).toEqual({
        outcome: 'fenced',
        reason: 'epoch',
      })
      expect(await require(sandboxId(), { open: false })).toEqual({ outcome: 'fenced', reason: 'absent' })
    })

    test('takes no exec once it is closing, but still facts', async () => {
      const id = await place()
      await append(db.pool, request({ live: { action: 'closing', sandboxId: id } }))
      expect(await require(id, { open: true })).toEqual({ outcome: 'fenced', reason: 'closing' })
      expect(await require(id, { open: false })).toMatchObject({ outcome: 'appended' })
    })

    test('goes with the terminal event; a stale epoch cannot end it', async () => {
      const id = await place()
      const close = (epoch: number) => request({ live: { action: 'close', sandboxId: id, epoch } })
      expect(await append(db.pool, close(2))).toEqual({ outcome: 'fenced', reason: 'epoch' })
      expect(await append(db.pool, close(1))).toMatchObject({ outcome: 'appended' })
      expect(await append(db.pool, close(1))).toEqual({ outcome: 'fenced', reason: 'absent' })
    })

    test('makes execs and a closing exclude each other, whoever comes first', async () => {
      for (let round = 0; round < 5; round++) {
        const id = await place()
        const execs = Array.from({ length: 6 }, () => require(id, { open: true }))
        const closing = append(db.pool, request({ live: { action: 'closing', sandboxId: id } }))
        await Promise.all([closing, ...execs])
        expect(await require(id, { open: true })).toEqual({ outcome: 'fenced', reason: 'closing' })
      }
    })
  })

  describe('reservations', () => {
    const worker = (workerId: string, memoryBytes: number) =>
      upsertWorker(db.pool, {
        workerId,
        incarnation: 'one',
        capacity: { cpuMillis: 2_000, memoryBytes, diskBytes: 1_000_000 },
        poolFreeBytes: 0,
        info: {},
      })
    const reservedOn = async (workerId: string) => (await findWorker(db.pool, workerId))?.reserved
    const usedBy = async (tenant: string) => (await findTenant(db.pool, tenant))?.used
    const limit = async (tenant: string, limits: Parameters<typeof setTenantLimits>[2]) => {
      await ensureTenant(db.pool, tenant)
      await setTenantLimits(db.pool, tenant, limits)
    }
    const take = (workerId: string, tenant = 'acme', memoryBytes = 100) => {
      const id = sandboxId()
      const resources = { cpuMillis: 125, memoryBytes, diskBytes: 10 }
      const reservation = { action: 'take' as const, sandboxId: id, workerId, resources }
      return append(db.pool, request({ tenant, stream: id, reservation })).then((result) => ({ id, result }))
    }

    test('never take more than a worker has, with twenty at once', async () => {
      await worker('wk-small', 550)
      const results = await Promise.all(Array.from({ length: 20 }, () => take('wk-small')))
      const outcomes = results.map(({ result }) => result.outcome)
      expect(outcomes.filter((outcome) => outcome === 'appended')).toHaveLength(5)
      expect(
        results.filter(({ result }) => result.outcome !== 'appended').map(({ result }) => result),
      ).toEqual(Array(15).fill({ outcome: 'no-capacity', of: 'worker' }))
      expect(await reservedOn('wk-small')).toMatchObject({ memoryBytes: 500 })
    })

    test('"no capacity" is not stored: the same command may be tried again', async () => {
      await worker('wk-retry', 100)
      const { id } = await take('wk-retry')
      const resources = { cpuMillis: 1, memoryBytes: 100, diskBytes: 1 }
      const second = request({
        reservation: { action: 'take', sandboxId: sandboxId(), workerId: 'wk-retry', resources },
      })
      expect(await append(db.pool, second)).toEqual({ outcome: 'no-capacity', of: 'worker' })
      await append(db.pool, request({ reservation: { action: 'release', sandboxId: id } }))
      expect(await append(db.pool, second)).toMatchObject({ outcome: 'appended' })
    })

    test("stop at the tenant's quota and take nothing from the worker then", async () => {
      await worker('wk-big', 1_000_000)
      await limit('small', { sandboxes: 2 })
      const results = await Promise.all(Array.from({ length: 5 }, () => take('wk-big', 'small')))
      const refused = results.filter(({ result }) => result.outcome === 'no-capacity')
      expect(refused.map(({ result }) => result)).toEqual(
        Array(3).fill({
          outcome: 'no-capacity',
          of: 'tenant',
          excess: { quota: 'sandboxes', limit: 2, used: 2, asked: 1 },
        }),
      )
      expect(await reservedOn('wk-big')).toMatchObject({ memoryBytes: 200 })
      expect(await usedBy('small')).toMatchObject({ sandboxes: 2, memoryBytes: 200 })
    })

    test('name the quota that refuses: of memory too, when there is room for one more sandbox', async () => {
      await worker('wk-memory', 1_000_000)
      await limit('lean', { sandboxes: 9, memoryBytes: 150 })
      await take('wk-memory', 'lean')
      expect((await take('wk-memory', 'lean')).result).toEqual({
        outcome: 'no-capacity',
        of: 'tenant',
        excess: { quota: 'memoryBytes', limit: 150, used: 100, asked: 100 },
      })
    })

    test('of open execs are counted exactly: twenty at once, released twice, taken again', async () => {
      await limit('busy', { execs: 3 })
      const slot = (action: 'take' | 'release', execId: string) =>
        append(db.pool, request({ tenant: 'busy', execSlot: { action, execId } }))
      const results = await Promise.all(
        Array.from({ length: 20 }, async (_, n) => ({
          id: `ex-${n}`,
          result: await slot('take', `ex-${n}`),
        })),
      )
      const taken = results.filter(({ result }) => result.outcome === 'appended')
      expect(taken).toHaveLength(3)
      expect(
        results.filter(({ result }) => result.outcome !== 'appended').map(({ result }) => result),
      ).toEqual(
        Array(17).fill({
          outcome: 'no-capacity',
          of: 'tenant',
          excess: { quota: 'execs', limit: 3, used: 3, asked: 1 },
        }),
      )
      const first = taken[0]!.id
      expect(
        await Promise.all([slot('release', first), slot('release', first), slot('release', 'ex-old')]),
      ).toEqual(Array(3).fill(expect.objectContaining({ outcome: 'appended' })))
      expect(await usedBy('busy')).toMatchObject({ execs: 2 })
      expect(await slot('take', 'ex-next')).toMatchObject({ outcome: 'appended' })
      expect(await slot('take', 'ex-too-many')).toMatchObject({ outcome: 'no-capacity' })
    })

    test('are given back once, also when they are released twice', async () => {
      await worker('wk-back', 1000)
      const { id } = await take('wk-back', 'back')
      const release = () =>
        append(db.pool, request({ tenant: 'back', reservation: { action: 'release', sandboxId: id } }))
      await Promise.all([release(), release()])
      expect(await reservedOn('wk-back')).toMatchObject({ cpuMillis: 0 })
      expect(await usedBy('back')).toMatchObject({ sandboxes: 0 })
    })

    test('refuse a worker that is lost or unknown', async () => {
      await worker('wk-lost', 1000)
      await loseWorker(db.pool, 'wk-lost', new Date(Date.now() + 60_000))
      const refusal = { outcome: 'no-capacity', of: 'worker' }
      expect((await take('wk-lost')).result).toEqual(refusal)
      expect((await take('wk-unknown')).result).toEqual(refusal)
    })
  })
}
