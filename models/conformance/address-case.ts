// A row of the facts about addresses and network plugins: what is asked and expected has another form for each kind.

import { formatIp, isIpv6, parseAddress } from '../packet/ip-address.ts';

export interface AddressCase {
  readonly id: string;
  readonly area: string;
  readonly kind: string;
  readonly input: CaseInput;
  readonly expect: Readonly<Record<string, unknown>>;
}

// biome-ignore lint/suspicious/noExplicitAny: of what form it is, only the kind says
export type CaseInput = Readonly<Record<string, any>>;

/** Answers by kind: what the model says, in the words of the row's `expect`. */
export type Questions = Readonly<Record<string, (input: CaseInput) => unknown>>;

/** Every fact that is expected is there. An error is one that says so, among other things. */
export function agrees(expected: unknown, got: unknown): boolean {
  if (expected === null || got === null || !(expected instanceof Object) || !(got instanceof Object))
    return canonical(expected) === canonical(got);
  if (Array.isArray(expected) && expected.length !== (got as unknown[]).length) return false;
  return Object.entries(expected).every(([key, value]) => {
    const found: unknown = Reflect.get(got, key);
    if (key === 'error') return typeof found === 'string' && found.includes(String(value));
    return agrees(value, found);
  });
}

/** Addresses are compared as addresses. */
function canonical(value: unknown): unknown {
  if (typeof value !== 'string') return value;
  const [, address = '', rest = ''] = /^([^/\s]*)(\/\d+)?$/.exec(value) ?? [];
  return isIpv6(address) ? formatIp(parseAddress(address).ip, 6) + rest : value;
}

/** What an action fails with, or what it says. */
export function answerOf(action: () => unknown): unknown {
  try {
    return action();
  } catch (error) {
    if (error instanceof Error && EXPECTED_ERRORS.has(error.name)) return { error: error.message };
    throw error;
  }
}

/** A field `then`, as facts have it: an object with a method of that name would be a promise. */
export const followedBy = (what: string): object => Object.fromEntries([['then', what]]);

/** Refusals; any other error is one of the model's own. */
const EXPECTED_ERRORS = new Set(['CniError', 'ObjectError', 'RangeError', 'RangesError']);
