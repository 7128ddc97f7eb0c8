// Ethernet addresses as 48-bit numbers: they hash, compare and copy without allocation.

declare const macBrand: unique symbol;
/** A 48-bit Ethernet address; the first byte on the wire is the most significant. */
export type Mac = number & { readonly [macBrand]: true };

export const BROADCAST_MAC = 0xff_ff_ff_ff_ff_ff as Mac;
export const ZERO_MAC = 0 as Mac;

// In two parts, which are small integers: what V8 does not box.

/** The upper 16 bits. */
export const macHigh = (mac: Mac): number => Math.floor(mac / 2 ** 32);
/** The lower 32 bits, as a signed integer. */
export const macLow = (mac: Mac): number => mac | 0;
export const macOf = (high: number, low: number): Mac => (high * 2 ** 32 + (low >>> 0)) as Mac;

const GROUP_BIT_OF_HIGH = 1 << 8;
export const isGroupHigh = (high: number): boolean => (high & GROUP_BIT_OF_HIGH) !== 0;

/** Multicast and broadcast addresses have the lowest bit of their first byte set. */
export const isGroupAddress = (mac: Mac): boolean => isGroupHigh(macHigh(mac));

/**
 * The `serial`-th locally administered unicast address, `02:00:…`. Linux draws the MAC of a veth at random; serial
 * numbers keep runs reproducible and never collide.
 */
export const localMac = (serial: number): Mac => (0x02_00_00_00_00_00 + serial) as Mac;

/** `02:00:00:00:00:2a`. */
export function formatMac(mac: Mac): string {
  return mac.toString(16).padStart(12, '0').match(/../g)!.join(':');
}

/** Reads `02:00:00:00:00:2a`; throws a RangeError for anything else. */
export function parseMac(text: string): Mac {
  if (!/^([0-9a-f]{2}:){5}[0-9a-f]{2}$/i.test(text))
    throw new RangeError(`MAC address "${text}"; expected six hex bytes`);
  return Number.parseInt(text.replaceAll(':', ''), 16) as Mac;
}
