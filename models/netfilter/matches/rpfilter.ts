// `-m rpfilter`: would an answer leave by the device that the packet came in by? The stack says how it would route it
// (ipt_rpfilter.c, ip6t_rpfilter.c).
//
// `--validmark` asks for the route of the packet's mark; the simulator's routes do not depend on marks.

import type { Frame } from '../../packet/frame.ts';
import { ANY_IP, isMulticast, LIMITED_BROADCAST_IP } from '../../packet/ip-address.ts';
import type { MatchKind } from './match.ts';

export interface RpfilterMatch {
  readonly match: 'rpfilter';
  /** Any device will do. */
  readonly loose?: boolean;
  readonly validMark?: boolean;
  /** A source that is an address of this namespace will do. */
  readonly acceptLocal?: boolean;
  readonly invert?: boolean;
}

export const rpfilter: MatchKind<RpfilterMatch> = {
  name: 'rpfilter',
  tables: ['raw', 'mangle'],
  hooks: () => ['PREROUTING'],
  print: ({ loose, validMark, acceptLocal, invert }) =>
    `${loose ? ' --loose' : ''}${validMark ? ' --validmark' : ''}${acceptLocal ? ' --accept-local' : ''}` +
    `${invert ? ' --invert' : ''}`,
  options: {
    '--loose': () => ({ loose: true }),
    '--validmark': () => ({ validMark: true }),
    '--accept-local': () => ({ acceptLocal: true }),
    '--invert': () => ({ invert: true }),
  },
  complete: (fields) => ({ ...fields, match: 'rpfilter' }),
  compile: ({ loose = false, acceptLocal = false, invert = false }) => {
    return (frame, context) => {
      const { inDevice, inName } = context;
      if (inName === 'lo' || isDiscovery(frame)) return !invert;
      const route = context.routeTo(frame.srcIp, frame.family);
      const passes =
        route !== undefined && (!route.isLocal || acceptLocal) && (loose || route.device?.index === inDevice?.index);
      return passes !== invert;
    };
  },
};

/** A host that has no address yet asks for one (DHCP). */
const isDiscovery = ({ family, srcIp, dstIp }: Frame): boolean =>
  family === 4 && srcIp >>> 24 === ANY_IP && (dstIp === LIMITED_BROADCAST_IP || isMulticast(dstIp));
