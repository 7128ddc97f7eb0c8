// `-m nfacct`: counts packets in an account that rules share by its name, and matches every frame. kube-proxy 1.33 and
// later count INVALID segments and node ports on loopback in two of them.
//
// An account is there as soon as a rule counts in it; Linux wants it made before (`nfacct add`). Not modelled: quotas.

import { ETHERNET_HEADER_BYTES } from '../../packet/frame.ts';
import type { MatchKind } from './match.ts';

export interface NfacctMatch {
  readonly match: 'nfacct';
  readonly name: string;
}

export interface Account {
  packets: number;
  bytes: number;
}

/** By name; what `nfacct list` shows. */
export type Accounts = Map<string, Account>;

/** NFACCT_NAME_MAX without its terminating zero. */
const LONGEST_NAME = 31;

export const nfacct: MatchKind<NfacctMatch> = {
  name: 'nfacct',
  remembers: true,
  print: ({ name }) => ` --nfacct-name ${name}`,
  options: { '--nfacct-name': (words) => ({ name: words.takeText(LONGEST_NAME) }) },
  complete: ({ name }) => (name === undefined ? '--nfacct-name NAME' : { match: 'nfacct', name }),
  problem: ({ name }) =>
    name.length > LONGEST_NAME ? `"${name}" has more than ${LONGEST_NAME} characters` : undefined,
  // nfnl_acct_update counts skb->len: the packet without its Ethernet header.
  compile:
    ({ name }) =>
    (frame, { accounts }) => {
      let account = accounts.get(name);
      if (account === undefined) accounts.set(name, (account = { packets: 0, bytes: 0 }));
      account.packets++;
      account.bytes += frame.sizeBytes - ETHERNET_HEADER_BYTES;
      return true;
    },
};
