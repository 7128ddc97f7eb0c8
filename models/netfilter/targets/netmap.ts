// `-j NETMAP`: maps a network onto another of the same size, host by host: of the destination in PREROUTING and OUTPUT, of
// the source in POSTROUTING and INPUT.

import { formatPrefix, type Prefix } from '../../packet/ip-address.ts';
import { TARGET } from '../action.ts';
import { readPrefix } from '../prefix-text.ts';
import type { TargetKind } from './target.ts';

export interface NetmapTarget {
  readonly target: 'NETMAP';
  readonly to: Prefix;
}

export const netmap: TargetKind<NetmapTarget> = {
  name: 'NETMAP',
  action: TARGET,
  tables: ['nat'],
  needsConntrack: true,
  print: ({ to }) => ` --to ${formatPrefix(to)}`,
  options: {
    '--to': (words) => ({
      to: words.takeAs(`an IPv${words.family} network ADDRESS/LENGTH`, (word) => readPrefix(word, words.family)),
    }),
  },
  complete: ({ to }) => (to === undefined ? '--to NETWORK' : { target: 'NETMAP', to }),
};
