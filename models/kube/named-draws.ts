// Random choices that depend on the seed and on a name, but not on what was drawn before: one Service more in a cluster
// moves no address and renames no pod of the others, so runs with and without it can be compared pair by pair.

import type { RandomStream } from '../../engine/random.ts';

export class NamedDraws {
  readonly #salt: string;

  constructor(random: RandomStream) {
    this.#salt = random.bits31().toString(36);
  }

  /** 0 to `choices` - 1, always the same for the same name. At most 2^32 choices. */
  draw(name: string, choices: number): number {
    return mix(fnv1a(`${this.#salt}/${name}`)) % choices;
  }

  /** `x2x7k`: five letters, as the API server appends to a `generateName`. */
  suffix(name: string): string {
    let rest = this.draw(name, SAFE_LETTERS.length ** 5);
    let suffix = '';
    for (let i = 0; i < 5; i++) {
      suffix += SAFE_LETTERS[rest % SAFE_LETTERS.length];
      rest = Math.floor(rest / SAFE_LETTERS.length);
    }
    return suffix;
  }
}

/** Letters that spell no words: k8s.io/apimachinery/pkg/util/rand. */
const SAFE_LETTERS = 'bcdfghjklmnpqrstvwxz2456789';

/** A hash in the letters of object names, 9 or 10 of them: `7d4b9c6f5`, the pod-template-hash of a ReplicaSet. */
export function templateHash(text: string): string {
  return String(fnv1a(text)).replace(
    /\d/g,
    (digit) => SAFE_LETTERS[digit.charCodeAt(0) % SAFE_LETTERS.length] as string,
  );
}

/** FNV-1a, 32 bits, over UTF-16 code units. */
function fnv1a(text: string): number {
  let hash = 0x811c9dc5;
  for (let i = 0; i < text.length; i++) hash = Math.imul(hash ^ text.charCodeAt(i), 0x01000193);
  return hash >>> 0;
}

/** The finalizer of MurmurHash3: names that differ in one digit end far apart. */
function mix(hash: number): number {
  hash = Math.imul(hash ^ (hash >>> 16), 0x85ebca6b);
  hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2ae35);
  return (hash ^ (hash >>> 16)) >>> 0;
}
