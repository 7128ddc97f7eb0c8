// TCP sequence numbers: 32 bits that wrap, as signed int32. Differences are taken modulo 2^32, so comparisons hold for
// numbers less than 2^31 apart (RFC 9293 3.4).

export const isBefore = (a: number, b: number): boolean => ((a - b) | 0) < 0;
export const isAfter = (a: number, b: number): boolean => ((a - b) | 0) > 0;
