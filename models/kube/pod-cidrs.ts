// The pod range of one IP family cut into one piece per node, in order, as kube-controller-manager's node IPAM does with
// `--allocate-node-cidrs`. Nodes that bring a piece of their own (a snapshot) keep it.

import { addressAt, addressBits, formatPrefix, overlaps, type Prefix, prefix } from '../packet/ip-address.ts';
import { ipv6Bits } from '../packet/ipv6-address.ts';

/** `--node-cidr-mask-size-ipv4` and `-ipv6`. A pod range without room for one piece goes to one node. */
export const NODE_MASK_SIZE = { 4: 24, 6: 64 } as const;

/** clusterSubnetMaxDiff */
const MOST_IPV6_BITS = 16;

export class PodCidrs {
  readonly #range: Prefix;
  readonly #byNode = new Map<string, Prefix>();
  readonly #pieceLength: number;
  /** Numbers of the pieces that are taken, in whole or in part, and by how many nodes. */
  readonly #taken = new Map<number, number>();
  #next = 0;

  /** Throws a RangeError for pieces that are larger than the range, or too many to count (CIDRSetSubNetTooBig). */
  constructor(range: Prefix, pieceLength: number = Math.max(NODE_MASK_SIZE[range.family], range.length)) {
    this.#range = range;
    this.#pieceLength = pieceLength;
    if (pieceLength < range.length || pieceLength > addressBits(range.family))
      throw new RangeError(`node mask size ${pieceLength}; expected ${range.length} to ${addressBits(range.family)}`);
    if (range.family === 6 && pieceLength - range.length > MOST_IPV6_BITS)
      throw new RangeError(
        `node mask size ${pieceLength} for ${formatPrefix(range)}: more than 16 bits between cluster and node mask (IPv6)`,
      );
  }

  /** How many pieces there are. */
  get size(): number {
    return 2 ** (this.#pieceLength - this.#range.length);
  }

  /** How many of them are taken, in whole or in part. */
  get taken(): number {
    return this.#taken.size;
  }

  pieceAt(index: number): Prefix {
    const { family } = this.#range;
    const pieceSize = 2 ** (addressBits(family) - this.#pieceLength);
    return prefix(addressAt(this.#range, index * pieceSize), this.#pieceLength, family);
  }

  /** Numbers of the first and the last piece that a prefix lies in, or that lie in it. Throws a RangeError for one outside. */
  indexesOf(piece: Prefix): { readonly first: number; readonly last: number } {
    if (!overlaps(this.#range, piece))
      throw new RangeError(`${formatPrefix(piece)} is not in the cluster range ${formatPrefix(this.#range)}`);
    const indexes = this.#pieces(piece);
    return { first: indexes[0]!, last: indexes.at(-1)! };
  }

  /** Nobody's from now on, and not to be given: as a range that is used otherwise (occupying twice is as once). */
  occupy(piece: Prefix): void {
    for (const index of this.#pieces(piece)) if (!this.#taken.has(index)) this.#taken.set(index, 1);
  }

  /** Free again, whoever had it. */
  free(piece: Prefix): void {
    for (const index of this.#pieces(piece)) this.#taken.delete(index);
  }

  get nodes(): number {
    return this.#byNode.size;
  }

  /** The name of another node whose piece overlaps this one. */
  ownerOf(piece: Prefix, exceptNode: string): string | undefined {
    if (this.#pieces(piece).every((index) => !this.#taken.has(index))) return undefined;
    for (const [node, other] of this.#byNode) if (node !== exceptNode && overlaps(piece, other)) return node;
    return undefined;
  }

  take(node: string, piece: Prefix): void {
    this.#byNode.set(node, piece);
    for (const index of this.#pieces(piece)) this.#taken.set(index, (this.#taken.get(index) ?? 0) + 1);
  }

  /** The next free piece, for `node`; undefined if the pod range is used up. A released one comes round again last. */
  allocate(node: string): Prefix | undefined {
    const pieces = this.size;
    for (let tried = 0; tried < pieces; tried++) {
      const index = this.#next;
      this.#next = (this.#next + 1) % pieces;
      if (this.#taken.has(index)) continue;
      const piece = this.pieceAt(index);
      this.take(node, piece);
      return piece;
    }
    return undefined;
  }

  release(node: string): void {
    const piece = this.#byNode.get(node);
    if (piece === undefined) return;
    this.#byNode.delete(node);
    for (const index of this.#pieces(piece)) {
      const holders = (this.#taken.get(index) ?? 0) - 1;
      if (holders > 0) this.#taken.set(index, holders);
      else this.#taken.delete(index);
    }
  }

  /** Numbers of the pieces of the usual size that a prefix lies in, or that lie in it. */
  #pieces({ family, net, length }: Prefix): number[] {
    if (length < this.#range.length) return Array.from({ length: this.size }, (_, index) => index);
    const first =
      family === 4
        ? ((net - this.#range.net) >>> 0) >>> (32 - this.#pieceLength)
        : ipv6Bits(net, this.#range.length, this.#pieceLength);
    return Array.from({ length: 2 ** Math.max(0, this.#pieceLength - length) }, (_, index) => first + index);
  }
}
