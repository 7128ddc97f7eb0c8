// The types of sets that are modelled, by what their elements are made of.

import type { IpFamily } from '../../packet/ip-address.ts';

/** `net` is an address with a length; `port` has a protocol with it. */
export type Dimension = 'ip' | 'net' | 'port' | 'iface' | 'set';

const DIMENSIONS = {
  'hash:ip': ['ip'],
  'hash:net': ['net'],
  'hash:ip,port': ['ip', 'port'],
  'hash:ip,port,ip': ['ip', 'port', 'ip'],
  'hash:ip,port,net': ['ip', 'port', 'net'],
  'hash:net,port': ['net', 'port'],
  'hash:net,iface': ['net', 'iface'],
  'bitmap:port': ['port'],
  'list:set': ['set'],
} as const satisfies Record<string, readonly Dimension[]>;

export type SetType = keyof typeof DIMENSIONS;

export const SET_TYPES = Object.keys(DIMENSIONS) as readonly SetType[];

export const dimensionsOf = (type: SetType): readonly Dimension[] => DIMENSIONS[type];

/** What `create` says beside name and type. Absent: as the kernel chooses, and not printed where it chooses at random. */
export interface SetOptions {
  /** Of hashes; absent: 4. */
  readonly family?: IpFamily;
  /** Places of the hash and of a bucket, and its seed: without effect on what is found. */
  readonly hashSize?: number;
  readonly bucketSize?: number;
  readonly seed?: number;
  /** Absent: 65,536. */
  readonly maxElements?: number;
  /** hash:ip: addresses are cut to so many bits. */
  readonly netmask?: number;
  /** bitmap:port. */
  readonly range?: { readonly first: number; readonly last: number };
  /** list:set; absent: 8. */
  readonly size?: number;
  /** Elements end after so many seconds unless they say otherwise; 0: only those that say so. Absent: none ends. */
  readonly timeoutSeconds?: number;
  readonly counters?: boolean;
  readonly comment?: boolean;
  /** A full set forgets an element for a new one. */
  readonly forceAdd?: boolean;
}

export const DEFAULT_HASH_SIZE = 1_024;
export const DEFAULT_MAX_ELEMENTS = 65_536;
export const DEFAULT_LIST_SIZE = 8;
