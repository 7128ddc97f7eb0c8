// What may stand between an application's addresses and a socket's (BPF programs at cgroup/connect4, sendmsg4, recvmsg4): a
// Service's address becomes that of an endpoint before there is a packet, and no packet has to be translated.

import type { SocketAddress } from './transport-stack.ts';

export interface SocketBalancer {
  /** CPU time of one question. */
  readonly costNs: number;
  /** Where a socket of the network namespace goes that wants to go to `to`; undefined: there. */
  translate(protocol: number, to: SocketAddress, namespace: string): SocketAddress | 'unserved' | undefined;
}
