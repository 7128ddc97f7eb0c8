// The host-local IPAM plugin: addresses of one node's ranges, in turn. The next address of a set of ranges is the one after
// the last that was given, so an address comes back only after all of them have been used: a restarted pod gets a new one.
// A container gets one of each set; in a dual-stack cluster there is a set of each family.
//
// Source of the order: allocator.go of containernetworking/plugins ("last reserved IP + 1", gateways skipped, wraps).
//
// Beyond the plugin: addresses that pods of a snapshot have (`host.isReserved`) are given to nobody else, do not move the
// order, and may lie outside all ranges; such a one stands alone, as a /32 or /128. Not modelled: resolvConf.

import { addressBits, formatIp, type IpAddress, parseAddress, parseAnyPrefix } from '../../packet/ip-address.ts';
import { CNI_ERROR, CniError, failure, invalidConfig } from '../cni-error.ts';
import type { CniHost, IsReserved } from '../cni-host.ts';
import { list, optional, text } from '../options.ts';
import { type Attachment, type CniCall, cniPlugin } from '../plugin.ts';
import type { CniResult, ResultIp, ResultRoute } from '../result.ts';
import { AddressRange, type RangeConfig } from './address-range.ts';
import { HostLocalStore } from './host-local-store.ts';

export interface RouteConfig {
  readonly dst: string;
  readonly gw?: string;
}

export interface HostLocalOptions {
  readonly ranges: readonly (readonly RangeConfig[])[];
  readonly routes: readonly RouteConfig[];
  readonly dataDir: string;
  /** A single range may stand beside the other options. */
  readonly subnet: string | undefined;
  readonly rangeStart: string | undefined;
  readonly rangeEnd: string | undefined;
  readonly gateway: string | undefined;
}

export const hostLocal = cniPlugin<HostLocalOptions>({
  type: 'host-local',
  options: {
    ranges: list(),
    routes: list(),
    dataDir: text('/var/lib/cni/networks'),
    subnet: optional(text('')),
    rangeStart: optional(text('')),
    rangeEnd: optional(text('')),
    gateway: optional(text('')),
  },
  add: (call) => allocate(call),
  del: ({ host, network, options, ...holder }) => storeOf(host, network, options).release(attachmentOf(holder)),
  check: ({ host, network, options, ...holder }) => {
    if (storeOf(host, network, options).heldBy(attachmentOf(holder)).length === 0)
      throw failure(`host-local: no address is allocated to container ${holder.containerId}`);
  },
  gc: ({ host, network, options, validAttachments }) => storeOf(host, network, options).keepOnly(validAttachments),
});

/** What a network's addresses come from. What has been given is in the store. */
export class RangeSets {
  readonly sets: readonly RangeSet[];

  /** Throws a CniError for ranges that cannot be used together. */
  constructor(options: RangeOptions, { isReserved = () => false, cniVersion = '1.0.0' }: RangeSetsOptions = {}) {
    this.sets = rangesOf(options).map((ranges) => new RangeSet(ranges, isReserved));
    if (this.sets.length === 0) throw invalidConfig('host-local: ranges: expected at least one');
    for (const [i, set] of this.sets.entries()) {
      for (const other of this.sets.slice(i + 1)) {
        if (SINGLE_ADDRESS_VERSIONS.includes(cniVersion) && other.family === set.family)
          throw invalidConfig(
            `host-local: more than one address per family needs a newer CNI version than ${cniVersion}; expected 0.3.0`,
          );
        if (set.overlaps(other)) throw invalidConfig(`host-local: ranges ${set} and ${other} overlap`);
      }
    }
  }

  /** The set that an address belongs to. */
  setOf({ family, ip }: IpAddress): RangeSet | undefined {
    return this.sets.find((set) => set.family === family && set.rangeOf(ip) !== undefined);
  }
}

/** A single range may stand beside the sets. */
export type RangeOptions = Partial<Pick<HostLocalOptions, 'ranges' | keyof RangeConfig>>;

interface RangeSetsOptions {
  readonly isReserved?: IsReserved;
  readonly cniVersion?: string;
}

/** Result versions before several addresses. */
const SINGLE_ADDRESS_VERSIONS = ['0.1.0', '0.2.0'];

/** Ranges of which a container gets one address. */
export class RangeSet {
  readonly ranges: readonly AddressRange[];
  readonly #isReserved: IsReserved;

  constructor(configs: readonly RangeConfig[], isReserved: IsReserved) {
    this.ranges = configs.map((config) => new AddressRange(config, isReserved));
    this.#isReserved = isReserved;
    for (const [i, range] of this.ranges.entries()) {
      for (const other of this.ranges.slice(i + 1)) {
        if (other.family !== range.family) throw invalidConfig(`host-local: ${range} and ${other} are of two families`);
        if (range.overlaps(other)) throw invalidConfig(`host-local: subnets of one set overlap: ${range} and ${other}`);
      }
    }
  }

  get family() {
    return this.ranges[0]!.family;
  }

  rangeOf(ip: IpAddress['ip']): AddressRange | undefined {
    return this.ranges.find((range) => range.has(ip));
  }

  overlaps(other: RangeSet): boolean {
    return this.ranges.some((range) => other.ranges.some((second) => range.overlaps(second)));
  }

  /** All addresses from behind `last` on, around to it; without `last`, or with one of no range, from the first. */
  *candidates(last: IpAddress | undefined): Generator<IpAddress & { readonly range: AddressRange }> {
    const { family, ranges } = this;
    const known = last === undefined ? -1 : ranges.findIndex((range) => range.has(last.ip));
    const start = Math.max(known, 0);
    const from = known < 0 ? ranges[0]!.first : ranges[start]!.numberOf(last!.ip) + 1;
    for (let turn = 0; turn <= ranges.length; turn++) {
      const range = ranges[(start + turn) % ranges.length]!;
      const begin = turn === 0 ? from : range.first;
      const end = turn === ranges.length ? from - 1 : range.last;
      for (let number = begin; number <= end; number++) {
        const ip = range.at(number);
        if (ip === range.gateway || this.#isReserved({ family, ip })) continue;
        yield { family, ip, range };
      }
    }
  }

  toString(): string {
    return this.ranges.join(',');
  }
}

function allocate(call: CniCall<HostLocalOptions>): CniResult {
  const { host, network, config, cniVersion, options } = call;
  const store = storeOf(host, network, options);
  const { sets, routes } = read(options, host, cniVersion);
  const attachment = attachmentOf(call);
  const requested = (config.args?.cni?.ips ?? []).map((address) => parseAddress(address.split('/')[0]!));
  try {
    const ips = sets.sets.map((set, number) => {
      const wanted = requested.find((address) => isWantedOf(set, address, { sets, host }));
      const taking = { store, set, number, attachment, host };
      return wanted === undefined ? takeNext(taking) : takeRequested(taking, wanted);
    });
    const lost = requested.find(({ family, ip }) => !ips.some((given) => given.family === family && given.ip === ip));
    if (lost !== undefined)
      throw failure(`host-local: requested address ${formatIp(lost.ip, lost.family)} is in no range of the network`);
    return { interfaces: [], ips, routes, dns: {} };
  } catch (error) {
    if (!(error instanceof DuplicateError)) store.release(attachment);
    throw error;
  }
}

/** Of its ranges, or, for a pod of a snapshot, at least of its family. */
function isWantedOf(set: RangeSet, address: IpAddress, { sets, host }: { sets: RangeSets; host: CniHost }): boolean {
  const owner = sets.setOf(address);
  if (owner !== undefined || !host.isReserved(address)) return owner === set;
  return set.family === address.family;
}

interface Taking {
  readonly store: HostLocalStore;
  readonly set: RangeSet;
  /** Of the set. */
  readonly number: number;
  readonly attachment: Attachment;
  readonly host: CniHost;
}

function takeRequested({ store, set, number, attachment, host }: Taking, wanted: IpAddress): ResultIp {
  const { family, ip } = wanted;
  const range = set.rangeOf(ip);
  const text = formatIp(ip, family);
  if (set.ranges.some(({ gateway }) => gateway === ip))
    throw failure(`host-local: requested address ${text} is the gateway of its subnet`);
  if (!store.reserve(wanted, attachment))
    throw failure(`host-local: requested address ${text} is not available in range set ${set}`);
  if (!host.isReserved(wanted)) store.setLastReserved(number, wanted);
  const { gateway, subnet } = range ?? set.ranges[0]!;
  return { family, ip, length: range === undefined ? addressBits(family) : subnet.length, gateway };
}

function takeNext({ store, set, number, attachment }: Taking): ResultIp {
  const { containerId } = attachment;
  for (const held of store.heldBy(attachment)) {
    if (held.family === set.family && set.rangeOf(held.ip) !== undefined)
      throw new DuplicateError(
        `host-local: ${formatIp(held.ip, held.family)} has been allocated to ${containerId}: duplicate allocation is not allowed`,
      );
  }
  for (const { family, ip, range } of set.candidates(store.lastReserved(number))) {
    const address = { family, ip };
    if (!store.reserve(address, attachment)) continue;
    store.setLastReserved(number, address);
    return { family, ip, length: range.subnet.length, gateway: range.gateway };
  }
  throw failure(`host-local: no IP addresses available in range set: ${set}`);
}

/** What the container holds already, it keeps. */
class DuplicateError extends CniError {
  constructor(message: string) {
    super(CNI_ERROR.internal, message);
  }
}

/** The gateways of a network's ranges: the node's own addresses where a plugin gives them to a device of the node. */
export const gatewaysOf = (options: RangeOptions, isReserved: IsReserved): readonly ResultIp[] =>
  new RangeSets(options, { isReserved }).sets.map(({ family, ranges }) => ({
    family,
    ip: ranges[0]!.gateway,
    length: ranges[0]!.subnet.length,
  }));

/** The directory of a network. */
export const storeOf = (
  host: CniHost,
  network: string,
  { dataDir }: Pick<HostLocalOptions, 'dataDir'>,
): HostLocalStore => host.store(`${dataDir}/${network}`, () => new HostLocalStore());

interface ReadOptions {
  readonly sets: RangeSets;
  readonly routes: readonly ResultRoute[];
}

/** Configurations do not change while a node runs: read once. */
const known = new WeakMap<HostLocalOptions, ReadOptions>();

function read(options: HostLocalOptions, { isReserved }: CniHost, cniVersion: string): ReadOptions {
  let found = known.get(options);
  if (found === undefined) {
    const routes = options.routes.map(({ dst, gw }) => ({
      dst: parseAnyPrefix(dst),
      gw: gw === undefined ? undefined : parseAddress(gw).ip,
    }));
    known.set(options, (found = { sets: new RangeSets(options, { isReserved, cniVersion }), routes }));
  }
  return found;
}

function rangesOf({ subnet, rangeStart, rangeEnd, gateway, ranges = [] }: RangeOptions): readonly RangeConfig[][] {
  const sets = ranges.map((set) => [...set]);
  if (subnet === undefined) return sets;
  const alone = {
    subnet,
    ...(rangeStart !== undefined && { rangeStart }),
    ...(rangeEnd !== undefined && { rangeEnd }),
    ...(gateway !== undefined && { gateway }),
  };
  return [[alone], ...sets];
}

const attachmentOf = ({ containerId, ifName }: Attachment): Attachment => ({ containerId, ifName });
