// `-m physdev`: the bridge ports of a bridged frame. Frames that br_netfilter has not seen have none.

import { deviceNameProblem, deviceNameTest } from '../device-name.ts';
import type { MatchKind } from './match.ts';

export interface PhysdevMatch {
  readonly match: 'physdev';
  /** Port it came in by, or the beginning of its name with `+` at the end. */
  readonly inDevice?: string;
  readonly inDeviceNegated?: boolean;
  readonly outDevice?: string;
  readonly outDeviceNegated?: boolean;
  /** Came in by a bridge port; false is `!`. */
  readonly isIn?: boolean;
  /** Will leave by a bridge port; false is `!`. */
  readonly isOut?: boolean;
  /** Goes from port to port of one bridge, not routed; false is `!`. */
  readonly isBridged?: boolean;
}

export const physdev: MatchKind<PhysdevMatch> = {
  name: 'physdev',
  isOfFlow: () => true,
  // xt_physdev.c: a packet of the node itself has no bridge ports yet.
  hooks: ({ outDevice, isOut, isBridged }) =>
    (outDevice === undefined && isOut === undefined) || isBridged === true
      ? undefined
      : ['PREROUTING', 'INPUT', 'FORWARD', 'POSTROUTING'],
  print: ({ inDevice, inDeviceNegated, outDevice, outDeviceNegated, isIn, isOut, isBridged }) =>
    printFlag('--physdev-is-in', isIn) +
    printDevice('--physdev-in', inDevice, inDeviceNegated) +
    printFlag('--physdev-is-out', isOut) +
    printDevice('--physdev-out', outDevice, outDeviceNegated) +
    printFlag('--physdev-is-bridged', isBridged),
  negatableOptions: {
    '--physdev-is-in': (_words, negated) => ({ isIn: !negated }),
    '--physdev-in': (words, negated) => ({
      inDevice: words.take('a device name'),
      ...(negated && { inDeviceNegated: negated }),
    }),
    '--physdev-is-out': (_words, negated) => ({ isOut: !negated }),
    '--physdev-out': (words, negated) => ({
      outDevice: words.take('a device name'),
      ...(negated && { outDeviceNegated: negated }),
    }),
    '--physdev-is-bridged': (_words, negated) => ({ isBridged: !negated }),
  },
  complete: (fields) =>
    Object.keys(fields).length === 0
      ? '--physdev-in, --physdev-out, --physdev-is-in, --physdev-is-out or --physdev-is-bridged'
      : { ...fields, match: 'physdev' },
  problem: ({ inDevice = 'any', outDevice = 'any' }) => deviceNameProblem(inDevice) ?? deviceNameProblem(outDevice),
  compile: ({ inDevice, inDeviceNegated = false, outDevice, outDeviceNegated = false, isIn, isOut, isBridged }) => {
    const isInDevice = inDevice === undefined ? undefined : deviceNameTest(inDevice);
    const isOutDevice = outDevice === undefined ? undefined : deviceNameTest(outDevice);
    return ({ physIn, physOut }) => {
      if (isBridged !== undefined && isBridged !== (physOut !== undefined)) return false;
      if (isIn !== undefined && isIn !== (physIn !== undefined)) return false;
      if (isOut !== undefined && isOut !== (physOut !== undefined)) return false;
      if (physIn === undefined && physOut === undefined) {
        return (isInDevice === undefined || inDeviceNegated) && (isOutDevice === undefined || outDeviceNegated);
      }
      // xt_physdev.c: without a port to compare, --physdev-in passes and --physdev-out fails, negated or not.
      if (isInDevice !== undefined && physIn !== undefined && isInDevice(physIn.name) === inDeviceNegated) return false;
      return isOutDevice === undefined || (physOut !== undefined && isOutDevice(physOut.name) !== outDeviceNegated);
    };
  },
};

const printFlag = (option: string, value: boolean | undefined): string =>
  value === undefined ? '' : `${value ? '' : ' !'} ${option}`;

const printDevice = (option: string, device: string | undefined, negated = false): string =>
  device === undefined ? '' : `${negated ? ' !' : ''} ${option} ${device}`;
