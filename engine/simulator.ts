// One run: the clock, the pending events, and the places where they happen.
//
// Events run in order of (time, key). A key is the place's id and that place's own counter, not a global counter, so the
// order of a place's events does not depend on what other places do, nor on how places are spread over workers.
//
// A simulator may be one worker's part of a run: then it runs the events of those places only that are at home with that
// worker, and of those that are at home everywhere (parallel/part.ts).
//
// Not here: cancellation of whole groups, priorities, real time, processes that wait (a model is callbacks and timers).

import assert from 'node:assert/strict';
import { Fingerprint } from './fingerprint.ts';
import { type EventOrigin, type FutureEventList, SLOT_LIMIT } from './future-event-list.ts';
import { NumberTable, UNBOXED } from './number-table.ts';
import { type RandomStream, RandomStreams } from './random.ts';
import { type Duration, END_OF_TIME, type Instant, START } from './time.ts';
import { TimingWheel } from './timing-wheel.ts';

declare const handleBrand: unique symbol;

/** Names one scheduled event, to cancel it. Harmless when it is stale: the event has run, or was cancelled. */
export type EventHandle = number & { readonly [handleBrand]: true };

/** Something that is measured at several places: what workers have measured adds up, in any order. */
export interface Measure {
  /** All of it, as plain data. */
  snapshot(): unknown;
  /** Adds what another worker has measured. */
  add(snapshot: unknown): void;
}

/**
 * An object of its own, so that whoever wants to know the time reads a field, and no getter returns a boxed number; of a
 * class of its own, because V8 unboxes what is a number in all objects of that shape.
 */
export class Clock {
  now = UNBOXED as Instant;

  constructor() {
    this.now = START;
  }
}

export class Simulator {
  readonly seed: string;
  readonly random: RandomStreams;
  /** In the order in which they were begun, which is the same at all workers. */
  readonly measures = new Set<Measure>();
  /** Which part of the run this is; 0 if it is all of it. */
  readonly worker: number;
  /** Of all places. */
  readonly clock = new Clock();
  /** Of whatever changes with each event. */
  readonly numbers = new NumberTable();
  readonly #events: FutureEventList;
  /**
   * What an event does, by its slot in the list: its action and the argument, side by side in one line of the processor's
   * cache. Both are cleared when the event has run, to let go of what they hold.
   */
  readonly #work: unknown[] = [];
  /** How often a slot has been used; a handle is valid while its generation is its slot's. */
  #generations = new Int32Array(FIRST_SLOTS);
  readonly #places = new Map<string, Place>();
  readonly #fingerprint = new Fingerprint();
  /** Keys from here on are counted and fingerprinted: what happens everywhere is counted by the first worker. */
  #countedFrom = 0;
  #executedEvents = 0;
  #running = false;
  #stopped = false;

  constructor({
    seed,
    eventList = new TimingWheel(),
    worker = 0,
  }: { seed: string; eventList?: FutureEventList; worker?: number }) {
    this.seed = seed;
    this.worker = worker;
    this.random = new RandomStreams(seed);
    this.#events = eventList;
  }

  get now(): Instant {
    return this.clock.now;
  }

  get pendingEvents(): number {
    return this.#events.size;
  }

  /** When the next event is; END_OF_TIME without any. */
  get nextEvent(): Instant {
    return this.#events.earliest();
  }

  get executedEvents(): number {
    return this.#executedEvents;
  }

  /** 16 hex digits over the (time, key) of every event so far: equal for equal trajectories. */
  get fingerprint(): string {
    return this.#fingerprint.toString();
  }

  /** Creates a place. Names are unique; ids follow the order of creation. */
  place(name: string, { home = 0 }: { home?: Home } = {}): Place {
    if (this.#places.has(name)) throw new Error(`place "${name}" exists already; names of places are unique`);
    const id = this.#places.size;
    if (id === PLACE_LIMIT) throw new RangeError(`more than ${PLACE_LIMIT} places`);
    const place = new Place(this, name, id, home);
    this.#places.set(name, place);
    if (home === 'everywhere' && this.worker > 0) {
      assert(this.#countedFrom === id * KEYS_PER_PLACE, 'places that are at home everywhere are created first');
      this.#countedFrom = (id + 1) * KEYS_PER_PLACE;
    }
    return place;
  }

  /**
   * Runs events until none is pending, {@link stop} is called, or the next one is later than `until`. The clock is then
   * at `until` if that is finite and nobody called stop, else at the last event. May be called again to go on.
   */
  run({ until = END_OF_TIME }: { until?: Instant } = {}): void {
    if (this.#running) throw new Error('run() was called by an event of the same simulator');
    if (!(until >= this.clock.now))
      throw new RangeError(`run until ${until} ns; expected not before now, ${this.clock.now} ns`);
    this.#running = true;
    this.#stopped = false;
    try {
      this.#runEvents(until);
    } finally {
      this.#running = false;
    }
    if (!this.#stopped && until < END_OF_TIME) this.clock.now = until;
  }

  /** Ends {@link run} after the current event. */
  stop(): void {
    this.#stopped = true;
  }

  /** For {@link Place}, which owns the keys: adds an event after `delay`, and returns its slot. */
  insert<A>(place: Place, delay: Duration, action: (argument: A) => void, argument: A): number {
    if (!place.isHere) return NO_SLOT;
    // Comparisons only: Number.isSafeInteger() takes a boxed number.
    if (!(delay >= 0 && delay <= Number.MAX_SAFE_INTEGER - this.clock.now && Math.floor(delay) === delay))
      throw this.#wrongTime(delay);
    const slot = this.#events.pushFrom(place, delay);
    this.#work[slot << 1] = action;
    this.#work[(slot << 1) | 1] = argument;
    return slot;
  }

  /** Of the pending event in a slot. */
  handleOf(slot: number): EventHandle {
    return (slot === NO_SLOT ? NO_SLOT : (this.#generations[slot] ?? 0) * SLOT_LIMIT + slot) as EventHandle;
  }

  /** Adds an event that a place of another worker has scheduled, with that place's key. */
  insertFrom<A>(at: Instant, key: number, action: (argument: A) => void, argument: A): void {
    assert(at >= this.clock.now, 'what comes from another worker comes in time');
    const slot = this.#events.push(at, key);
    this.#work[slot << 1] = action;
    this.#work[(slot << 1) | 1] = argument;
  }

  /** What other workers have run counts here, too. */
  addRun({ executedEvents, fingerprint }: { executedEvents: number; fingerprint: string }): void {
    this.#executedEvents += executedEvents;
    this.#fingerprint.merge(fingerprint);
  }

  /** False if the event has run already or was cancelled. */
  cancel(handle: EventHandle): boolean {
    const generation = Math.floor(handle / SLOT_LIMIT);
    const slot = handle - generation * SLOT_LIMIT;
    if ((this.#generations[slot] ?? 0) !== generation) return false;
    this.#events.cancel(slot);
    this.#release(slot);
    return true;
  }

  #wrongTime(delay: number): RangeError {
    const at = this.clock.now + delay;
    return new RangeError(`event at ${at} ns; expected whole nanoseconds, not before now, ${this.clock.now} ns`);
  }

  #runEvents(until: Instant): void {
    const events = this.#events;
    const work = this.#work;
    const countedFrom = this.#countedFrom;
    while (!this.#stopped) {
      const slot = events.popUntil(until);
      if (slot === undefined) return;
      this.clock.now = events.timeOf(slot);
      if (events.keyOf(slot) >= countedFrom) {
        this.#executedEvents++;
        this.#fingerprint.add(events, slot);
      }
      const action = work[slot << 1] as Action;
      const argument = work[(slot << 1) | 1];
      this.#release(slot); // first, because the action may schedule an event into this slot
      action(argument as never);
    }
  }

  #release(slot: number): void {
    this.#work[slot << 1] = undefined;
    this.#work[(slot << 1) | 1] = undefined;
    if (slot >= this.#generations.length) this.#growGenerations();
    this.#generations[slot] = (this.#generations[slot]! + 1) & GENERATION_MASK;
  }

  #growGenerations(): void {
    const before = this.#generations;
    this.#generations = new Int32Array(this.#work.length);
    this.#generations.set(before);
  }
}

type Action = (argument: never) => void;

const FIRST_SLOTS = 1_024;

/** Generation and slot together are 53 bits. A stale handle would need 2^27 reuses of its slot to look alive again. */
const GENERATION_MASK = 2 ** 27 - 1;

/** Of an event that another worker runs; as a handle, it is as harmless as a stale one. */
const NO_SLOT = -1;

const PLACE_LIMIT = 65_536;

/** Keys of a place are `id * 2^37 + counter`: 65,536 places of 137 billion events each, exact in a float64. */
const KEYS_PER_PLACE = 2 ** 37;

/** The worker whose part of the run a place is in. */
export type Home = number | 'everywhere';

/** Where things happen: a machine, the switch, the control plane. Has its own order keys and random streams. */
export class Place implements EventOrigin {
  readonly sim: Simulator;
  readonly clock: Readonly<Clock>;
  /** Its events run in this part of the run; others are dropped when they are scheduled. */
  readonly isHere: boolean;
  readonly id: number;
  /** Small numbers at most places, and those are not boxed. */
  #takenKeys = 0;
  readonly name: string;
  readonly home: Home;

  /** Use {@link Simulator.place}. */
  constructor(sim: Simulator, name: string, id: number, home: Home) {
    this.sim = sim;
    this.clock = sim.clock;
    this.name = name;
    this.id = id;
    this.home = home;
    this.isHere = home === 'everywhere' || home === sim.worker;
  }

  get now(): Instant {
    return this.clock.now;
  }

  /** Events that this place has scheduled so far, cancelled ones included. */
  get scheduledEvents(): number {
    return this.#takenKeys;
  }

  /** The order key of an event of this place, for the simulator and for frames that leave its worker. */
  takeKey(): number {
    return this.id * KEYS_PER_PLACE + this.#takenKeys++;
  }

  /** Runs `action(argument)` after `delay`. */
  schedule<A>(delay: Duration, action: (argument: A) => void, argument: A): void {
    this.sim.insert(this, delay, action, argument);
  }

  /** {@link schedule}, for whoever may want to {@link cancel} it; a handle is a boxed number. */
  scheduleCancellable<A>(delay: Duration, action: (argument: A) => void, argument: A): EventHandle {
    return this.sim.handleOf(this.sim.insert(this, delay, action, argument));
  }

  /** Runs `action(argument)` at `at`; throws a RangeError if that is over. Now is allowed: after the current event. */
  scheduleAt<A>(at: Instant, action: (argument: A) => void, argument: A): void {
    this.sim.insert(this, (at - this.clock.now) as Duration, action, argument);
  }

  /** False if the event has run already or was cancelled. */
  cancel(handle: EventHandle): boolean {
    return this.sim.cancel(handle);
  }

  /** This place's stream of that name: other places and other names do not disturb it. */
  random(name: string): RandomStream {
    // One text, where `${}` keeps its parts and a tree of them: there are as many streams as pods.
    return this.sim.random.stream([this.name, name].join('/'));
  }
}
