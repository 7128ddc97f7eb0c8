// `-m mac`: the Ethernet address that the frame came from. A frame that came by lo has none and does not match, negated or
// not.

import { formatMac, type Mac, parseMac } from '../../packet/mac.ts';
import type { MatchKind } from './match.ts';

export interface MacMatch {
  readonly match: 'mac';
  readonly source: Mac;
  readonly negated?: boolean;
}

export const mac: MatchKind<MacMatch> = {
  name: 'mac',
  hooks: () => ['PREROUTING', 'INPUT', 'FORWARD'],
  print: ({ source, negated }) => `${negated ? ' !' : ''} --mac-source ${formatMac(source)}`,
  negatableOptions: {
    '--mac-source': (words, negated) => ({
      source: words.takeAs('a MAC address: six hex bytes with colons between them', readMac),
      ...(negated && { negated }),
    }),
  },
  complete: ({ source, ...fields }) =>
    source === undefined ? '--mac-source ADDRESS' : { ...fields, match: 'mac', source },
  compile: ({ source, negated = false }) => {
    return (frame, { inName }) => inName !== 'lo' && (frame.srcMac === source) !== negated;
  },
};

/** Bytes of one or two digits. */
function readMac(word: string): Mac | undefined {
  if (!/^[0-9a-f]{1,2}(:[0-9a-f]{1,2}){5}$/i.test(word)) return undefined;
  return parseMac(
    word
      .split(':')
      .map((byte) => byte.padStart(2, '0'))
      .join(':'),
  );
}
