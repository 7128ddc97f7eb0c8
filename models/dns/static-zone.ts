// Records that do not change, and nothing else: what an upstream resolver knows of the world.

import { isInZone, sameName } from './domain-name.ts';
import { emptyAnswer, type Question, type ResourceRecord } from './message.ts';
import { startOfAuthority, type Zone, type ZoneAnswer } from './zone.ts';

export class StaticZone implements Zone {
  readonly #name: string;
  readonly #records: readonly ResourceRecord[];
  readonly #negativeTtlSeconds: number;

  /** `name`: `.` for all names. */
  constructor(
    name: string,
    records: readonly ResourceRecord[],
    { negativeTtlSeconds = 300 }: { readonly negativeTtlSeconds?: number } = {},
  ) {
    this.#name = name;
    this.#records = records;
    this.#negativeTtlSeconds = negativeTtlSeconds;
  }

  answer({ name, type }: Question): ZoneAnswer | undefined {
    if (!isInZone(name, this.#name)) return undefined;
    const answers: ResourceRecord[] = [];
    let owner = name;
    // An alias leads on; a loop of aliases ends when it comes round.
    for (let step = 0; step <= this.#records.length; step++) {
      const own = this.#records.filter((record) => sameName(record.name, owner));
      answers.push(...own.filter((record) => record.type === type));
      const alias = own.find((record) => record.type === 'CNAME');
      if (alias?.type !== 'CNAME' || type === 'CNAME') break;
      if (answers.some((record) => record.type === 'CNAME' && sameName(record.name, owner))) break;
      answers.push(alias);
      owner = alias.target;
    }
    if (answers.length > 0) return { ...emptyAnswer('NOERROR'), answers };
    const rcode = this.#records.some((record) => isInZone(record.name, name)) ? 'NOERROR' : 'NXDOMAIN';
    return { ...emptyAnswer(rcode), authority: [this.#soa()] };
  }

  #soa(): ResourceRecord {
    return {
      name: this.#name,
      ttlSeconds: this.#negativeTtlSeconds,
      ...startOfAuthority({
        primary: 'a.root-servers.net.',
        mailbox: 'nstld.verisign-grs.com.',
        serial: 1,
        minimumSeconds: this.#negativeTtlSeconds,
      }),
    };
  }
}
