// What will happen: the pending events of a run, in order of (time, key).
//
// The list knows only when: what an event does is kept by the simulator, under the integer *slot* that the list hands
// out. A slot in use before is handed out again before a new one, and new ones count up from 0: tables indexed by slot
// grow by appending, and stay as short as the list ever was long.

import type { Duration, Instant } from './time.ts';

/** Where an event comes from: a place, with its clock and its order keys. */
export interface EventOrigin {
  readonly now: Instant;
  /** A key that nobody has had. */
  takeKey(): number;
}

/** When events are, and in which order; read where they stand, because a number that is handed on may be boxed. */
export interface EventTimes {
  /** Of a pending event, and of the one that was popped last until another one is pushed. */
  timeOf(slot: number): Instant;
  keyOf(slot: number): number;
}

export interface FutureEventList extends EventTimes {
  /** Pending events; cancelled ones do not count. */
  readonly size: number;

  /**
   * Adds an event and returns its slot, below {@link SLOT_LIMIT}. Equal times run in order of key; keys are unique.
   * Time moves forward: `time` is whole nanoseconds, finite, not before the last event that {@link popUntil} returned,
   * and not before a limit at which it left later ones.
   */
  push(time: Instant, key: number): number;

  /** {@link push} `delay` from now, with the origin's next key: neither the time nor the key is boxed to be an argument. */
  pushFrom(origin: EventOrigin, delay: Duration): number;

  /** Removes the earliest event, unless it is later than `limit`, and returns its slot; the slot is free again. */
  popUntil(limit: Instant): number | undefined;

  /**
   * When the earliest pending event is, END_OF_TIME without any; where events have been cancelled perhaps the time of one
   * of them, but never one that {@link popUntil} has passed.
   */
  earliest(): Instant;

  /** Removes a pending event. */
  cancel(slot: number): void;
}

/** More pending events than this do not fit: handles pack a slot and its generation into one exact number. */
export const SLOT_LIMIT = 2 ** 26;
