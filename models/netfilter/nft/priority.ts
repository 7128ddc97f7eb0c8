// Priorities of base chains by name: `filter`, `dstnat - 10`.

import type { NftHook } from './syntax.ts';
import type { TokenReader } from './tokens.ts';

interface NamedPriority {
  readonly name: string;
  readonly value: number;
  /** The only hook that it is for. */
  readonly hook?: NftHook;
}

const NAMED: readonly NamedPriority[] = [
  { name: 'raw', value: -300 },
  { name: 'mangle', value: -150 },
  { name: 'dstnat', value: -100, hook: 'prerouting' },
  { name: 'filter', value: 0 },
  { name: 'security', value: 50 },
  { name: 'srcnat', value: 100, hook: 'postrouting' },
];

/** Up to this far from a name, nft prints the name and the distance. */
const NEAR = 10;

export function printPriority(priority: number, hook: NftHook): string {
  const near = NAMED.find((named) => fits(named, hook) && Math.abs(priority - named.value) <= NEAR);
  if (near === undefined) return `${priority}`;
  const distance = priority - near.value;
  if (distance === 0) return near.name;
  return `${near.name} ${distance < 0 ? '-' : '+'} ${Math.abs(distance)}`;
}

export function readPriority(reader: TokenReader, hook: NftHook): number {
  if (reader.peek.kind !== 'name') return signed(reader);
  const names = NAMED.filter((named) => fits(named, hook));
  const { value } = names.find(({ name }) => reader.at(name)) ?? {};
  if (value === undefined) throw reader.error(`a number or one of ${names.map(({ name }) => name).join(', ')}`);
  reader.take();
  if (reader.takeIf('+')) return value + reader.takeNumber({ last: 2 ** 31 - 1 });
  return reader.takeIf('-') ? value - reader.takeNumber({ last: 2 ** 31 - 1 }) : value;
}

const fits = ({ hook: only }: NamedPriority, hook: NftHook): boolean => only === undefined || only === hook;

const signed = (reader: TokenReader): number =>
  reader.takeIf('-') ? -reader.takeNumber({ last: 2 ** 31 }) : reader.takeNumber({ last: 2 ** 31 - 1 });
