// What a DNS server asks of the zones that it serves: one plugin of CoreDNS each.

import type { Answer, Question, StartOfAuthority } from './message.ts';

export interface Zone {
  /** Whether the zone, and no other, answers for the name; undefined: another one may. */
  answer(question: Question): ZoneAnswer | undefined;
}

/** An answer; `chases` are questions whose answers belong to it, and which other zones or an upstream may answer. */
export interface ZoneAnswer extends Answer {
  readonly chases?: readonly Chase[];
}

export interface Chase {
  readonly question: Question;
  /** Where the records go. */
  readonly section: 'answers' | 'additional';
}

/** The record at the top of a zone, which goes with every "no". Refresh and retry are CoreDNS's (plugin/backend_lookup.go). */
export const startOfAuthority = ({
  primary,
  mailbox,
  serial,
  minimumSeconds,
}: Pick<StartOfAuthority, 'primary' | 'mailbox' | 'serial' | 'minimumSeconds'>): {
  type: 'SOA';
} & StartOfAuthority => ({
  type: 'SOA',
  primary,
  mailbox,
  serial,
  refreshSeconds: 7200,
  retrySeconds: 1800,
  expireSeconds: 86_400,
  minimumSeconds,
});
