// A set of ICMP types as sysctls write it: `0-1,3-127` (proc_do_large_bitmap).

export class IcmpTypes {
  readonly #text: string;
  readonly #has = new Set<number>();

  /** Throws a RangeError unless the text is a list of types and ranges of types, each from 0 to 255. */
  constructor(text: string) {
    this.#text = text;
    for (const part of text.split(',')) {
      const [, first = '', last = first] = /^(\d{1,3})(?:-(\d{1,3}))?$/.exec(part) ?? [];
      if (first === '' || Number(first) > Number(last) || Number(last) > 255)
        throw new RangeError(`"${text}"; expected ICMP types and ranges such as 0-1,3-127`);
      for (let type = Number(first); type <= Number(last); type++) this.#has.add(type);
    }
  }

  has(type: number): boolean {
    return this.#has.has(type);
  }

  toString(): string {
    return this.#text;
  }
}
