// A node as CNI plugins find it: its kernel (the machine), and what they and others have put on its disk.

import type { NetworkNamespace } from '../host/network-namespace.ts';
import type { IpAddress } from '../packet/ip-address.ts';
import type { Mac } from '../packet/mac.ts';

/** Says of addresses that containers will ask for that they are: pods of a snapshot keep theirs. */
export type IsReserved = (address: IpAddress) => boolean;

/** As much of a machine as plugins use. */
export interface CniMachine {
  readonly name: string;
  readonly root: NetworkNamespace;
  readonly namespaces: readonly NetworkNamespace[];
  nextMac(): Mac;
}

export interface CniHostOptions {
  readonly isReserved?: IsReserved;
  /** If absent they are numbered. */
  readonly newVethName?: () => string;
}

export class CniHost {
  readonly machine: CniMachine;
  readonly isReserved: IsReserved;
  /** Files that programs of a node leave for each other, by path: `/run/flannel/subnet.env`. */
  readonly files = new Map<string, string>();
  readonly #stores = new Map<string, object>();
  /** For the host's end of a new pair. Real ones are random. */
  readonly newVethName: () => string;

  constructor(machine: CniMachine, { isReserved = () => false, newVethName = numbered() }: CniHostOptions = {}) {
    this.machine = machine;
    this.isReserved = isReserved;
    this.newVethName = newVethName;
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
}

function numbered(): () => string {
  let veths = 0;
  return () => `veth${(++veths).toString(16).padStart(4, '0')}`;
}
