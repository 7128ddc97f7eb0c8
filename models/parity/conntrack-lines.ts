// Lines of `conntrack -L`, with or without `-o extended`, as records that can be compared.

export interface ConntrackLine {
  readonly family: 4 | 6;
  readonly protocol: number;
  /** Undefined for entries that end by other means than time (offloaded ones). */
  readonly timeoutSeconds: number | undefined;
  /** Of TCP: SYN_SENT, ESTABLISHED, … */
  readonly state: string | undefined;
  /** Keys as printed: src, dst, sport, dport, type, code, id. */
  readonly original: Readonly<Record<string, string>>;
  readonly reply: Readonly<Record<string, string>>;
  /** UNREPLIED, ASSURED, …; sorted. */
  readonly flags: readonly string[];
  /** mark, zone, zone-orig, …; `use` is left out, it counts references. */
  readonly fields: Readonly<Record<string, string>>;
}

/** Throws an Error that quotes the line if it is not of conntrack. */
export function parseConntrackLine(line: string): ConntrackLine {
  const words = line.trim().split(/\s+/);
  const isExtended = words[0] === 'ipv4' || words[0] === 'ipv6';
  const [, protocol = '', ...rest] = isExtended ? words.slice(2) : words;
  if (!/^\d+$/.test(protocol)) throw new Error(`"${line}"; expected a line of conntrack -L`);
  const tuples: Record<string, string>[] = [];
  const flags: string[] = [];
  const fields: Record<string, string> = {};
  let timeoutSeconds: number | undefined;
  let state: string | undefined;
  for (const word of rest) {
    const [key = '', value] = word.split('=');
    if (value === undefined) {
      if (/^\[.*\]$/.test(word)) flags.push(word.slice(1, -1));
      else if (/^\d+$/.test(word)) timeoutSeconds = Number(word);
      else state = word;
    } else if (TUPLE_KEYS.has(key)) {
      if (key === 'src') tuples.push({});
      tuples.at(-1)![key] = value;
    } else if (key !== 'use') {
      fields[key] = value;
    }
  }
  const [original = {}, reply = {}] = tuples;
  const family = (original.src ?? '').includes(':') ? 6 : 4;
  return { family, protocol: Number(protocol), timeoutSeconds, state, original, reply, flags: flags.sort(), fields };
}

const TUPLE_KEYS: ReadonlySet<string> = new Set(['src', 'dst', 'sport', 'dport', 'type', 'code', 'id']);
