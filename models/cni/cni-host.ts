// A node as CNI plugins find it: its kernel (the machine), and what they and others have put on its disk.

import type { Machine } from '../host/machine.ts';
import type { NetworkNamespace } from '../host/network-namespace.ts';
import type { IpAddress } from '../packet/ip-address.ts';

/** Says of addresses that containers will ask for that they are: pods of a snapshot keep theirs. */
export type IsReserved = (address: IpAddress) => boolean;

export class CniHost {
  readonly machine: Machine;
  readonly isReserved: IsReserved;
  /** Files that programs of a node leave for each other, by path: `/run/flannel/subnet.env`. */
  readonly files = new Map<string, string>();
  readonly #stores = new Map<string, object>();
  #veths = 0;

  constructor(machine: Machine, { isReserved = () => false }: { isReserved?: IsReserved } = {}) {
    this.machine = machine;
    this.isReserved = isReserved;
  }

  /** The node's own network namespace. */
  get root(): NetworkNamespace {
    return this.machine.root;
  }

  /** What a plugin keeps in a directory on disk from one call to the next. */
  store<S extends object>(path: string, make: () => S): S {
    let store = this.#stores.get(path);
    if (store === undefined) this.#stores.set(path, (store = make()));
    return store as S;
  }

  /** For the host's end of a new pair. Real ones are random. */
  newVethName(): string {
    return `veth${(++this.#veths).toString(16).padStart(4, '0')}`;
  }
}
