// The pod range of one IP family cut into one piece per node, in order, as kube-controller-manager's node IPAM does with
// `--allocate-node-cidrs`. Nodes that bring a piece of their own (a snapshot) keep it.

import { addressAt, addressBits, overlaps, type Prefix, prefix } from '../packet/ip-address.ts';
import { ipv6Bits } from '../packet/ipv6-address.ts';

/** `--node-cidr-mask-size-ipv4` and `-ipv6`. A pod range without room for one piece goes to one node. */
export const NODE_MASK_SIZE = { 4: 24, 6: 64 } as const;

export class PodCidrs {
  readonly #range: Prefix;
  readonly #byNode = new Map<string, Prefix>();
  readonly #pieceLength: number;
  /** Numbers of the pieces that are taken, in whole or in part, and by how many nodes. */
  readonly #taken = new Map<number, number>();
  #next = 0;

  constructor(range: Prefix) {
    this.#range = range;
    this.#pieceLength = Math.max(NODE_MASK_SIZE[range.family], range.length);
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
    const { family, length } = this.#range;
    const pieces = 2 ** (this.#pieceLength - length);
    const pieceSize = 2 ** (addressBits(family) - this.#pieceLength);
    for (let tried = 0; tried < pieces; tried++) {
      const index = this.#next;
      this.#next = (this.#next + 1) % pieces;
      if (this.#taken.has(index)) continue;
      const piece = prefix(addressAt(this.#range, index * pieceSize), this.#pieceLength, family);
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
    const first =
      family === 4
        ? ((net - this.#range.net) >>> 0) >>> (32 - this.#pieceLength)
        : ipv6Bits(net, this.#range.length, this.#pieceLength);
    return Array.from({ length: 2 ** Math.max(0, this.#pieceLength - length) }, (_, index) => first + index);
  }
}
