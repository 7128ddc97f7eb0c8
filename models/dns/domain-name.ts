// Domain names as text: absolute, with the final dot, `web.shop.svc.cluster.local.`, escaped as in master files (RFC 1035
// section 5.1: `\.` for a dot inside a label, `\DDD` for a byte that is no printable ASCII). Comparison ignores the case
// of ASCII letters (RFC 4343).

import { formatIp, type IpAddress, isIpv4, isIpv6, parseAddress, parseIp, parseIpv6 } from '../packet/ip-address.ts';

/** RFC 1035 section 2.3.4: bytes of a label, and of a name on the wire, length bytes and the root's included. */
const LABEL_BYTES = 63;
const NAME_BYTES = 255;

/** A text that is no domain name, or one that is too long. The message says what is wrong with it. */
export class DomainNameError extends Error {
  override readonly name = 'DomainNameError';
}

/** `web.shop` as `web.shop.`; an absolute name as it is. */
export const absolute = (name: string): string => (isAbsolute(name) ? name : `${name}.`);

/** Ends with a dot that is not escaped. */
export const isAbsolute = (name: string): boolean => /(?:^|[^\\])(?:\\\\)*\.$/.test(name);

/** Labels as they stand in the text, escapes included; none for the root. */
export function labelsOf(name: string): string[] {
  const relative = isAbsolute(name) ? name.slice(0, -1) : name;
  if (relative === '') return [];
  return relative.includes('\\') ? relative.split(/(?<!(?:^|[^\\])(?:\\\\)*\\)\./) : relative.split('.');
}

/** The labels as bytes. Throws a DomainNameError for a name that no message can carry. */
export function encodeLabels(name: string): Uint8Array[] {
  const labels = labelsOf(name).map(encodeLabel);
  const sizeBytes = labels.reduce((sum, { length }) => sum + length + 1, 1);
  const empty = labels.findIndex(({ length }) => length === 0);
  const long = labels.find(({ length }) => length > LABEL_BYTES);
  if (empty >= 0) throw new DomainNameError(`"${short(name)}": empty label`);
  if (long !== undefined)
    throw new DomainNameError(`"${short(name)}": a label of ${long.length} bytes; expected up to ${LABEL_BYTES}`);
  if (sizeBytes > NAME_BYTES)
    throw new DomainNameError(
      `"${short(name)}": ${sizeBytes - 2} bytes; expected up to ${NAME_BYTES - 2}, as ${NAME_BYTES} is all a message may carry`,
    );
  return labels;
}

const short = (name: string): string => (name.length > 60 ? `${name.slice(0, 57)}...` : name);

function encodeLabel(label: string): Uint8Array {
  const bytes: number[] = [];
  for (let i = 0; i < label.length; i++) {
    if (label[i] !== '\\') {
      const code = label.charCodeAt(i);
      if (code > 255) throw new DomainNameError(`"${short(label)}": not ASCII; expected its xn-- form`);
      bytes.push(code);
      continue;
    }
    const [digits] = /^\d{3}/.exec(label.slice(i + 1)) ?? [];
    if (digits !== undefined && Number(digits) < 256) {
      bytes.push(Number(digits));
      i += 3;
    } else if (digits === undefined && i + 1 < label.length) bytes.push(label.charCodeAt(++i));
    else throw new DomainNameError(`"${short(label)}": expected a character or three digits up to 255 after \\`);
  }
  return Uint8Array.from(bytes);
}

export function decodeLabel(bytes: Uint8Array): string {
  let text = '';
  for (const byte of bytes) {
    const character = String.fromCharCode(byte);
    if (byte <= 32 || byte >= 127) text += `\\${String(byte).padStart(3, '0')}`;
    else text += SPECIAL.includes(character) ? `\\${character}` : character;
  }
  return text;
}

/** What means something in master files. */
const SPECIAL = '."\\;()@$';

/** What names are compared by. ASCII only: `toLowerCase` leaves escapes and digits alone. */
export const canonical = (name: string): string => absolute(name).toLowerCase();

export const sameName = (a: string, b: string): boolean => canonical(a) === canonical(b);

/** The zone itself, or a name in it. */
export function isInZone(name: string, zone: string): boolean {
  const [inner, outer] = [canonical(name), canonical(zone)];
  return outer === '.' || inner === outer || inner.endsWith(`.${outer}`);
}

/** The zone's part of a name in it, in the name's own spelling. */
export const zonePartOf = (name: string, zone: string): string => (zone === '.' ? '.' : name.slice(-zone.length));

/** Labels of a name in a zone that stand before the zone's, in lower case. */
export const labelsWithin = (name: string, zone: string): string[] =>
  labelsOf(canonical(name)).slice(0, labelsOf(name).length - labelsOf(zone).length);

/** `10.244.1.5` as `5.1.244.10.in-addr.arpa.` (RFC 1035 section 3.5), IPv6 by nibbles (RFC 3596). */
export function reverseNameOf(address: string): string {
  if (isIpv4(address)) return `${formatIp(parseIp(address)).split('.').reverse().join('.')}.in-addr.arpa.`;
  return `${nibblesOf(address).reverse().join('.')}.ip6.arpa.`;
}

/** The address in its canonical form; undefined for a name that is not the reverse of a whole address. */
export function addressOfReverseName(name: string): string | undefined {
  const text = canonical(name);
  const labels = labelsOf(text);
  if (text.endsWith('.in-addr.arpa.')) {
    const address = labels.slice(0, -2).reverse().join('.');
    return labels.length === 6 && isIpv4(address) ? address : undefined;
  }
  if (!text.endsWith('.ip6.arpa.') || labels.length !== 34) return undefined;
  const groups = labels.slice(0, -2).reverse().join('').match(/.{4}/g) ?? [];
  const address = groups.join(':');
  return groups.length === 8 && isIpv6(address) ? formatIp(parseIpv6(address), 6) : undefined;
}

export const isReverseName = (name: string): boolean => isInZone(name, 'in-addr.arpa.') || isInZone(name, 'ip6.arpa.');

function nibblesOf(address: string): string[] {
  const { ip, family } = parseAddress(address) satisfies IpAddress;
  const [head, tail = ''] = formatIp(ip, family).split('::');
  const parts = (text: string): string[] => (text === '' ? [] : text.split(':').flatMap(asGroups));
  const [before, behind] = [parts(head!), parts(tail)];
  const zeros = new Array<string>(8 - before.length - behind.length).fill('0');
  return [...before, ...zeros, ...behind].flatMap((group) => [...group.padStart(4, '0')]);
}

/** A dotted tail of an IPv6 address as two groups. */
function asGroups(part: string): string[] {
  if (!part.includes('.')) return [part];
  const ip = parseIp(part);
  return [(ip >>> 16).toString(16), (ip & 0xffff).toString(16)];
}
