/**
 * Bodies that are wrong on purpose. A body is a value that fits its schema, written as JSON with some edits: what was
 * changed stands in the case itself, as plain data, so that a case can be printed, shrunk and kept in the corpus.
 */

import fc from 'fast-check'

type Node = unknown

/** JSON text that stands for a value, so that it can be what no value is: `NaN`, a key twice, 10^5 brackets. */
export type Source = string | { times: number; of: string }

export type Edit =
  | { do: 'set'; at: number; to: Source }
  | { do: 'remove'; at: number }
  | { do: 'add'; at: number; key: string; to: Source }
  | { do: 'repeat'; at: number; times: number }
  | { do: 'twice'; at: number }

/** Of the bytes that come of it. */
export type Damage =
  | { do: 'cut'; at: number }
  | { do: 'insert'; at: number; byte: number }
  | { do: 'before'; hex: string }
  | { do: 'after'; hex: string }
  | { do: 'fill'; bytes: number }

export interface Body {
  value: Node
  edits: Edit[]
  damage: Damage[]
}

const MIB = 1024 ** 2

const SOURCES: readonly Source[] = [
  ...[
    'null',
    'true',
    '0',
    '-0',
    '-1',
    '0.5',
    '1e-9',
    '2147483648',
    '4294967296',
    '9007199254740992',
    '1e999',
  ],
  ...[
    'NaN',
    'Infinity',
    'undefined',
    '0x10',
    "'x'",
    '',
    '""',
    '" "',
    '"\\u0000"',
    '"a\\u0000b"',
    '"\\n"',
    '"\\ud800"',
  ],
  ...['"\\u202e"', '"\\u001b]52;c;eA==\\u0007"', '"../../etc/passwd"', '"/"', '"-rf"', '"%00"', '"*"', '">"'],
  ...['"\'; drop table events; --"', '"$(id)"', '[]', '{}', '[null]', '{"":""}', '{"a":1,"a":2}'],
  ...['{"__proto__":{"x":1}}', '{"constructor":{"prototype":{"x":1}}}', '{"toString":1,"hasOwnProperty":1}'],
  { times: 63, of: '[' },
  { times: 100_000, of: '[' },
  { times: 100_000, of: '{"a":' },
]
const KEYS = [
  '',
  'a',
  '__proto__',
  'constructor',
  'prototype',
  'toString',
  'tenant',
  'length',
  '\0',
  '\ud800',
  '0',
  'then',
]

const nat = fc.nat(64)
const source = fc.oneof(
  { weight: 12, arbitrary: fc.constantFrom(...SOURCES) },
  { weight: 1, arbitrary: fc.constantFrom(4_096, 70_000, MIB).map((times) => ({ times, of: 'x' })) },
  { weight: 3, arbitrary: fc.json({ maxDepth: 2 }) },
)
const edit: fc.Arbitrary<Edit> = fc.oneof(
  { weight: 5, arbitrary: fc.record({ do: fc.constant('set' as const), at: nat, to: source }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constant('remove' as const), at: nat }) },
  {
    weight: 2,
    arbitrary: fc.record({
      do: fc.constant('add' as const),
      at: nat,
      key: fc.oneof(fc.constantFrom(...KEYS), fc.string({ unit: 'binary', maxLength: 80 })),
      to: source,
    }),
  },
  {
    weight: 1,
    arbitrary: fc.record({
      do: fc.constant('repeat' as const),
      at: nat,
      times: fc.constantFrom(2, 100, 40_000),
    }),
  },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('twice' as const), at: nat }) },
)
const damage: fc.Arbitrary<Damage> = fc.oneof(
  fc.record({ do: fc.constant('cut' as const), at: fc.nat(200) }),
  fc.record({ do: fc.constant('insert' as const), at: fc.nat(200), byte: fc.nat(255) }),
  fc.record({
    do: fc.constant('before' as const),
    hex: fc.constantFrom('efbbbf', 'fffe', '00', '20', '1f8b'),
  }),
  fc.record({ do: fc.constant('after' as const), hex: fc.constantFrom('00', '7b7d', '0a', 'ff', '5d') }),
  fc.record({ do: fc.constant('fill' as const), bytes: fc.constantFrom(MIB, MIB + 1, 2 * MIB) }),
)

/** A value with at most three edits, seldom damaged as bytes too; one in five is right as it is. */
export function bodyOf(value: fc.Arbitrary<Node>): fc.Arbitrary<Body> {
  return fc.record({
    value,
    edits: fc.oneof(
      { weight: 1, arbitrary: fc.constant<Edit[]>([]) },
      { weight: 4, arbitrary: fc.array(edit, { minLength: 1, maxLength: 3 }) },
    ),
    damage: fc.oneof(
      { weight: 6, arbitrary: fc.constant<Damage[]>([]) },
      { weight: 1, arbitrary: fc.array(damage, { minLength: 1, maxLength: 2 }) },
    ),
  })
}

/** The bytes of a body. `at` counts the places of a value in the order in which they are written, around and around. */
export function bytesOf({ value, edits, damage: damages }: Body): Buffer {
  let edited: Written = { write: value }
  for (const one of edits) edited = apply(edited, one)
  let bytes: Buffer = Buffer.from(write(edited), 'utf8')
  for (const one of damages) bytes = damaged(bytes, one)
  return bytes
}

/** Text of JSON that is written as it stands. */
class Raw {
  constructor(readonly text: string) {}
}
interface Written {
  write: Node
}

function textOf(of: Source): string {
  return typeof of === 'string' ? of : of.of === 'x' ? `"${'x'.repeat(of.times)}"` : of.of.repeat(of.times)
}

type Place = { in: unknown[] | Record<string, unknown>; key: string | number }

function apply(body: Written, edit: Edit): Written {
  const root: Written = { write: structured(body.write) }
  const places = placesOf(root as unknown as Record<string, unknown>)
  if (edit.do === 'add') {
    const homes = places.map(valueAt).filter(isRecord)
    const home = homes[edit.at % Math.max(1, homes.length)]
    if (home) put({ in: home, key: edit.key }, new Raw(textOf(edit.to)))
    return root
  }
  const place = places[edit.at % places.length]!
  const value = valueAt(place)
  switch (edit.do) {
    case 'set':
      put(place, new Raw(textOf(edit.to)))
      return root
    case 'remove':
      if (Array.isArray(place.in)) place.in.splice(Number(place.key), 1)
      else delete place.in[place.key]
      return root
    case 'repeat': {
      const times = Math.min(edit.times, Math.ceil(MIB / (written(value).length + 1)))
      put(place, typeof value === 'string' ? value.repeat(times) : Array.from({ length: times }, () => value))
      return root
    }
    case 'twice':
      // A key twice, the second time with null: which one counts must not matter.
      if (!Array.isArray(place.in))
        put(place, new Raw(`${write({ write: value })},${JSON.stringify(String(place.key))}:null`))
      return root
  }
}

/** Not by assignment: `__proto__` must become a key like any other. */
function put({ in: home, key }: Place, value: unknown): void {
  Object.defineProperty(home, key, { value, enumerable: true, configurable: true, writable: true })
}

function valueAt({ in: home, key }: Place): unknown {
  return (home as Record<string | number, unknown>)[key]
}

function isRecord(node: unknown): node is Record<string, unknown> {
  return typeof node === 'object' && node !== null && !Array.isArray(node) && !(node instanceof Raw)
}

/** A copy that may be changed. */
function structured(node: unknown): unknown {
  if (node instanceof Raw || node === null || typeof node !== 'object') return node
  if (Array.isArray(node)) return node.map(structured)
  return Object.fromEntries(Object.entries(node).map(([key, value]) => [key, structured(value)]))
}

function placesOf(node: unknown): Place[] {
  if (Array.isArray(node)) return node.flatMap((value, key) => [{ in: node, key }, ...placesOf(value)])
  if (!isRecord(node)) return []
  return Object.entries(node).flatMap(([key, value]) => [{ in: node, key }, ...placesOf(value)])
}

/** An edit may have removed the whole: that is an empty body. */
function write({ write: node }: Written): string {
  return node === undefined ? '' : written(node)
}

function written(node: unknown): string {
  if (node instanceof Raw) return node.text
  if (Array.isArray(node)) return `[${node.map(written).join(',')}]`
  if (!isRecord(node)) return JSON.stringify(node) ?? 'null'
  return `{${Object.entries(node)
    .map(([key, value]) => `${JSON.stringify(key)}:${written(value)}`)
    .join(',')}}`
}

function damaged(bytes: Buffer, one: Damage): Buffer {
  switch (one.do) {
    case 'cut':
      return bytes.subarray(0, one.at % (bytes.length + 1))
    case 'insert': {
      const at = one.at % (bytes.length + 1)
      return Buffer.concat([bytes.subarray(0, at), Buffer.from([one.byte]), bytes.subarray(at)])
    }
    case 'before':
      return Buffer.concat([Buffer.from(one.hex, 'hex'), bytes])
    case 'after':
      return Buffer.concat([bytes, Buffer.from(one.hex, 'hex')])
    case 'fill':
      return Buffer.concat([bytes, Buffer.alloc(Math.max(0, one.bytes - bytes.length), ' ')])
  }
}
