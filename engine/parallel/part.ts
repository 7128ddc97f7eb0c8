// One worker's part of a run that several workers simulate together.
//
// Each of them builds the same model from the same seed, and then runs the events of those places only that are at home
// with it. What it would do at other places is not done: their events are dropped when they are scheduled. A few places
// are at home everywhere: every worker runs all their events, and so knows without asking what happened there. What goes
// from a place of one worker to a place of another takes time, at least the *lookahead*; it travels through a ring of
// words in shared memory.
//
// Sound only if nothing at a place reads or changes, without delay, what belongs to a place that is at home with another
// worker. A model that finds that it does throws a CoupledError, and the run begins anew with one worker.

import type { Simulator } from '../simulator.ts';
import { type Duration, END_OF_TIME, type Instant } from '../time.ts';
import { Meeting, meetingBytes } from './meeting.ts';
import { ringBytes, WordRing } from './word-ring.ts';

/** What a worker is given: plain data that crosses threads. */
export interface PartStart {
  readonly index: number;
  readonly workers: number;
  /** Of {@link sharedMemoryFor} as many workers. */
  readonly memory: SharedArrayBuffer;
}

/** What crosses between the places of this part and those of others: the model's side of the rings. */
export interface Border {
  /** The shortest delay between places of two workers, whichever these are. */
  readonly lookahead: Duration;
  /** Of what was sent since it was asked last: when the earliest happens. */
  takeEarliestSent(): Instant;
  /** Others may have all that was sent. */
  publish(): void;
  /** Schedules all that others have published. */
  receive(): void;
}

/** How the parts tell each other what they have measured, at the end of a run. */
export interface PartMail {
  /** To the first worker. */
  send(data: unknown): void;
  /** What the others have sent, in their order. */
  receive(): readonly unknown[];
}

/** Room for some thousands of frames: a worker that finds a ring full waits until they are taken. */
const RING_WORDS = 2 ** 18;

export class Part {
  readonly index: number;
  readonly workers: number;
  /** By worker; its own is undefined. */
  readonly ringsTo: readonly (WordRing | undefined)[];
  readonly ringsFrom: readonly (WordRing | undefined)[];
  readonly #meeting: Meeting;
  readonly #mail: PartMail;
  readonly #resting = new Int32Array(new SharedArrayBuffer(4));

  constructor({ index, workers, memory }: PartStart, mail: PartMail) {
    this.#mail = mail;
    this.index = index;
    this.workers = workers;
    this.#meeting = new Meeting(memory, { byteOffset: 0, index, workers });
    const ring = (from: number, to: number): WordRing | undefined => {
      if (from === to) return undefined;
      const byteOffset = meetingBytes(workers) + (from * workers + to) * ringBytes(RING_WORDS);
      return new WordRing(memory, { byteOffset, capacityWords: RING_WORDS });
    };
    this.ringsTo = Array.from({ length: workers }, (_, to) => ring(index, to));
    this.ringsFrom = Array.from({ length: workers }, (_, from) => ring(from, index));
  }

  /**
   * What `sim.run({ until })` does, together with the other workers, who all call it. They tell each other the time of
   * their earliest event; nothing that happens then or later is felt by another worker before the lookahead has passed,
   * so everybody runs that far without asking. Nobody needs to know how far others are within a window.
   */
  run(sim: Simulator, border: Border, until: Instant): void {
    const windows = new Windows(sim, border);
    while (windows.run(this.#meeting.smallest(windows.proposal()), until));
  }

  /** Over all workers, who all call it. */
  sums(own: readonly number[]): number[] {
    return this.#meeting.sums(own);
  }

  /** All call it; the first worker gets what the others give. */
  gather<Data>(own: Data): readonly Data[] {
    if (this.index > 0) this.#mail.send(own);
    this.#meeting.sums([]);
    return this.index === 0 ? (this.#mail.receive() as readonly Data[]) : [];
  }

  /** Waits a moment for the others. Throws a MeetingEndedError if they will not come. */
  rest(): void {
    this.#meeting.check();
    Atomics.wait(this.#resting, 0, 0, 0.05);
  }

  /** The others need not wait for this worker any more. */
  end(): void {
    this.#meeting.end();
  }
}

/** One worker's steps between meetings. */
export class Windows {
  readonly #sim: Simulator;
  readonly #border: Border;

  constructor(sim: Simulator, border: Border) {
    this.#sim = sim;
    this.#border = border;
  }

  /** When the earliest thing happens that this worker knows of. */
  proposal(): Instant {
    this.#border.publish();
    return Math.min(this.#sim.nextEvent, this.#border.takeEarliestSent()) as Instant;
  }

  /** Runs the window that begins at the smallest proposal. False: that was the last one. */
  run(earliest: Instant, until: Instant): boolean {
    this.#border.receive();
    const isLast = earliest > until || earliest === END_OF_TIME;
    this.#sim.run({ until: isLast ? until : (Math.min(until, earliest + this.#border.lookahead - 1) as Instant) });
    return !isLast;
  }
}

export const sharedMemoryFor = (workers: number): SharedArrayBuffer =>
  new SharedArrayBuffer(meetingBytes(workers) + workers * workers * ringBytes(RING_WORDS));
