// Conntrack zones: entries of different zones may have the same tuples. A zone counts for both directions of a
// connection or for one of them only; the other direction is then looked up in zone 0 (nf_conntrack_zones.h).
//
// A zone is one integer, in `Frame.conntrackZone` and in the entry: its number, and above it the directions for which it
// counts. 0 is the default zone, which all frames have that no CT target was applied to.

export type ZoneDirections = 'both' | 'original' | 'reply';

/** What `CT --zone`, `--zone-orig` and `--zone-reply` put into a frame's `conntrackZone`. Numbers are 0 to 65535. */
export const zoneOf = (id: number, directions: ZoneDirections = 'both'): number =>
  id === 0 ? 0 : id | (DIRECTION_BITS[directions] << ID_BITS);

/** The number that counts in this direction (0: original, 1: reply). */
export const zoneIdOf = (zone: number, direction: number): number =>
  ((zone >>> ID_BITS) & (1 << direction)) === 0 ? 0 : zone & ID_MASK;

/** The zone's own number, whichever directions it counts for. */
export const zoneNumberOf = (zone: number): number => zone & ID_MASK;

export const zoneDirectionsOf = (zone: number): ZoneDirections =>
  DIRECTIONS.find((directions) => DIRECTION_BITS[directions] === zone >>> ID_BITS) ?? 'both';

const ID_BITS = 16;
const ID_MASK = 2 ** ID_BITS - 1;
const DIRECTIONS: readonly ZoneDirections[] = ['both', 'original', 'reply'];
const DIRECTION_BITS: Readonly<Record<ZoneDirections, number>> = { original: 1, reply: 2, both: 3 };
