// A pool of addresses that is given to nodes in blocks, as Calico's IPAM does: a node claims a block when it needs one, and
// routes are to blocks. Within a block addresses go round: one that is free again waits until the others have been used
// (lib/ipam of libcalico-go). It stands for the datastore that all nodes share.
//
// Not modelled: addresses of other nodes' blocks when no block is free (as with strictAffinity), release of empty blocks,
// and the order in which nodes look for blocks, which is random there: here the first free one is next.

import {
  addressAt,
  addressCount,
  contains,
  formatIp,
  formatPrefix,
  type Ip,
  type IpFamily,
  indexIn,
  type Prefix,
  prefix,
} from '../../packet/ip-address.ts';
import { failure } from '../cni-error.ts';
import type { IsReserved } from '../cni-host.ts';

/** `blockSize` of an IPPool. */
const BLOCK_LENGTH: Readonly<Record<IpFamily, number>> = { 4: 26, 6: 122 };

class Block {
  readonly range: Prefix;
  readonly node: string;
  /** Numbers of free addresses, the next one first. */
  readonly #free: number[];
  readonly #taken = new Map<string, number>();

  constructor(range: Prefix, node: string) {
    this.range = range;
    this.node = node;
    this.#free = Array.from({ length: addressCount(range) }, (_, number) => number);
  }

  /** The next free address that `isGood`; undefined without. */
  take(holder: string, isGood: (ip: Ip) => boolean): Ip | undefined {
    const place = this.#free.findIndex((number) => isGood(addressAt(this.range, number)));
    if (place < 0) return undefined;
    const [number] = this.#free.splice(place, 1) as [number];
    this.#taken.set(holder, number);
    return addressAt(this.range, number);
  }

  release(holder: string): void {
    const number = this.#taken.get(holder);
    if (number === undefined) return;
    this.#taken.delete(holder);
    this.#free.push(number);
  }
}

export class BlockPool {
  readonly range: Prefix;
  readonly #blockLength: number;
  readonly #blockSize: number;
  /** By number in the pool. */
  readonly #blocks = new Map<number, Block>();
  readonly #byNode = new Map<string, Block[]>();
  readonly #byHolder = new Map<string, Block>();
  #firstFree = 0;
  /** Told of every block that a node has claimed. */
  whenClaimed: (block: Prefix, node: string) => void = () => {};

  constructor(range: Prefix) {
    this.range = range;
    this.#blockLength = Math.max(BLOCK_LENGTH[range.family], range.length);
    this.#blockSize = addressCount({ ...range, length: this.#blockLength });
  }

  /** The next free address of the node's blocks, or of a new one. Throws a CniError when the pool is used up. */
  assign(node: string, holder: string, isReserved: IsReserved): Ip {
    const isGood = (ip: Ip): boolean => !isReserved({ family: this.range.family, ip });
    for (const block of this.#byNode.get(node) ?? []) {
      const ip = this.#take(block, holder, isGood);
      if (ip !== undefined) return ip;
    }
    for (;;) {
      const ip = this.#take(this.#claimNext(node), holder, isGood);
      if (ip !== undefined) return ip;
    }
  }

  /** A certain address of the pool, also one in another node's block. Throws a CniError if somebody has it. */
  assignRequested(node: string, holder: string, wanted: Ip): void {
    const number = Math.floor(indexIn(this.range, wanted) / this.#blockSize);
    const block = this.#blocks.get(number) ?? this.#claim(number, node);
    if (this.#take(block, holder, (ip) => ip === wanted) === undefined)
      throw failure(`calico-ipam: requested address ${formatIp(wanted, this.range.family)} is not available`);
  }

  release(holder: string): void {
    this.#byHolder.get(holder)?.release(holder);
    this.#byHolder.delete(holder);
  }

  holds(holder: string): boolean {
    return this.#byHolder.has(holder);
  }

  /** Is the address in a block of this node? */
  isOf(node: string, ip: Ip): boolean {
    return (this.#byNode.get(node) ?? []).some(({ range }) => contains(range, ip));
  }

  #take(block: Block, holder: string, isGood: (ip: Ip) => boolean): Ip | undefined {
    const ip = block.take(holder, isGood);
    if (ip !== undefined) this.#byHolder.set(holder, block);
    return ip;
  }

  #claimNext(node: string): Block {
    const count = 2 ** (this.#blockLength - this.range.length);
    while (this.#blocks.has(this.#firstFree)) this.#firstFree++;
    if (this.#firstFree >= count)
      throw failure(
        `calico-ipam: no IP addresses available in pool ${formatPrefix(this.range)}: all ${count} blocks are claimed`,
      );
    return this.#claim(this.#firstFree, node);
  }

  #claim(number: number, node: string): Block {
    const { family } = this.range;
    const block = new Block(prefix(addressAt(this.range, number * this.#blockSize), this.#blockLength, family), node);
    this.#blocks.set(number, block);
    this.#byNode.set(node, [...(this.#byNode.get(node) ?? []), block]);
    this.whenClaimed(block.range, node);
    return block;
  }
}
