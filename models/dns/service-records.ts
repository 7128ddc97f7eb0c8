// From what stands behind a name to its records, as CoreDNS's backends do (plugin/backend_lookup.go): each entry is an
// address or a name, under a name of its own, with a port.

import { isIpv4, isIpv6 } from '../packet/ip-address.ts';
import { absolute, sameName } from './domain-name.ts';
import type { ResourceRecord } from './message.ts';

export interface Entry {
  /** An address, or the name of something that has one. */
  readonly host: string;
  /** The entry's own name, which SRV records point to. */
  readonly name: string;
  /** undefined: it declares no port, and has no SRV record. */
  readonly port: number | undefined;
}

export const addressTypeOf = (host: string): 'A' | 'AAAA' | undefined =>
  isIpv4(host) ? 'A' : isIpv6(host) ? 'AAAA' : undefined;

/** Each address once. */
export function addressRecords(
  entries: readonly Entry[],
  { name, type, ttlSeconds }: { readonly name: string; readonly type: 'A' | 'AAAA'; readonly ttlSeconds: number },
): ResourceRecord[] {
  const own = new Set(entries.map(({ host }) => host).filter((host) => addressTypeOf(host) === type));
  return [...own].map((address) => ({ name, ttlSeconds, type, address }));
}

/**
 * A record per name and port, and the addresses of those names. All have the same weight, and the weights of all entries
 * sum up to 100, those of entries included that share a name.
 */
export function serviceRecords(
  entries: readonly Entry[],
  { name, ttlSeconds }: { readonly name: string; readonly ttlSeconds: number },
): { readonly answers: ResourceRecord[]; readonly additional: ResourceRecord[] } {
  const weight = Math.max(1, Math.floor(100 / entries.length));
  const answers = new Map<string, ResourceRecord>();
  const additional = new Map<string, ResourceRecord>();
  for (const { host, name: own, port } of entries) {
    if (port === undefined) continue;
    const type = addressTypeOf(host);
    const target = type === undefined ? absolute(host) : own;
    const key = `${target} ${port}`;
    if (!answers.has(key)) answers.set(key, { name, ttlSeconds, type: 'SRV', priority: 0, weight, port, target });
    if (type !== undefined) additional.set(`${target} ${host}`, { name: target, ttlSeconds, type, address: host });
  }
  return { answers: [...answers.values()], additional: [...additional.values()] };
}

/** Names that the entries point to, each once, but for `name` itself. */
export function targetsOf(entries: readonly Entry[], name: string): string[] {
  const names = entries.filter(({ host }) => addressTypeOf(host) === undefined).map(({ host }) => absolute(host));
  return [...new Set(names)].filter((target) => !sameName(target, name));
}
