// Random sets for `ipset restore`, and how rules may ask them.

import type { Draw } from './draw.ts';
import { DESTINATION_PORTS, type Words } from './words.ts';

export interface SetName {
  readonly name: string;
  /** For `--match-set`: one word per dimension. */
  readonly directions: readonly string[];
}

export interface DrawnSets {
  readonly text: string;
  readonly sets: readonly SetName[];
}

export function drawSets(draw: Draw, words: Words): DrawnSets {
  const family = words.family === 4 ? 'inet' : 'inet6';
  const prefix = words.family === 4 ? 's' : 'x';
  const addresses = [...words.pods, ...words.services, ...words.gateways];
  const port = () => `${draw.pick(['tcp', 'udp'])}:${draw.pick(DESTINATION_PORTS)}`;
  const kinds: readonly SetKind[] = [
    { type: 'hash:ip', member: () => draw.pick(addresses), directions: ['src', 'dst'] },
    { type: 'hash:net', member: () => draw.pick(words.networks.slice(1, 4)), directions: ['src', 'dst'] },
    { type: 'hash:ip,port', member: () => `${draw.pick(addresses)},${port()}`, directions: ['dst,dst', 'src,dst'] },
    {
      type: 'hash:ip,port,ip',
      member: () => `${draw.pick(addresses)},${port()},${draw.pick(words.pods)}`,
      directions: ['dst,dst,src', 'src,dst,dst'],
    },
  ];
  const chosen = draw.some(draw.between(1, 3), kinds);
  const lines = chosen.flatMap(({ type, member }, i) => {
    const members = new Set(Array.from({ length: draw.between(1, 4) }, member));
    return [
      `create ${prefix}${i} ${type} family ${family}`,
      ...[...members].map((each) => `add ${prefix}${i} ${each}`),
    ];
  });
  return {
    text: `${lines.join('\n')}\n`,
    sets: chosen.map(({ directions }, i) => ({ name: `${prefix}${i}`, directions })),
  };
}

interface SetKind {
  readonly type: string;
  readonly member: () => string;
  readonly directions: readonly string[];
}
