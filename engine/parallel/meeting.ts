// Where the workers of one run wait for each other: everybody brings a few numbers, and leaves when all have come with
// the smallest, or the sum, of each.
//
// A waiting worker looks again and again for a while, because to sleep and be woken takes longer (14 to 30 us) than most
// waits; then it sleeps, so that on a machine with fewer free cores than workers the others get on. Where looking has been in
// vain several times in a row, the others seem to be waiting for this core: from then on it sleeps almost at once, and looks
// for as long as before only now and then, to find out whether that has changed.

/** Some worker has failed, or the run is over for another reason; its error is told elsewhere. */
export class MeetingEndedError extends Error {
  override readonly name = 'MeetingEndedError';
}

// Of the control words, each in a line of the processors' caches of its own.
const ARRIVED = 0;
const ROUND = 16;
const SLEEPERS = 32;
const ENDED = 48;
const CONTROL_WORDS = 64;

/** How often a worker looks before it sleeps: 30 to 50 us, more than workers of even shares differ, and than a sleep takes. */
const MOST_LOOKS = 10_000;
/** Half a microsecond. */
const LEAST_LOOKS = 100;
/** So often in a row it looks in vain before it gives way; after that every so many meetings it looks for long again. */
const VAIN_LOOKS = 8;
const MEETINGS_BETWEEN_TRIES = 16;

/** A line of the cache: numbers that one worker brings to one round. */
const VALUES_PER_WORKER = 8;

export const meetingBytes = (workers: number): number => 4 * CONTROL_WORDS + 2 * 8 * VALUES_PER_WORKER * workers;

export class Meeting {
  readonly #control: Int32Array;
  /** Of this round and of the next one, by turns: a worker may be one round ahead of one that still reads. */
  readonly #values: Float64Array;
  readonly #index: number;
  readonly #workers: number;
  #parity = 0;
  /** Waits in a row that ended in sleep, or would have if it had looked for long. */
  #vain = 0;

  /** Each worker makes one over the same memory, of {@link meetingBytes}, which is zero at first. */
  constructor(
    memory: SharedArrayBuffer,
    { byteOffset, index, workers }: { byteOffset: number; index: number; workers: number },
  ) {
    this.#control = new Int32Array(memory, byteOffset, CONTROL_WORDS);
    this.#values = new Float64Array(memory, byteOffset + 4 * CONTROL_WORDS, 2 * VALUES_PER_WORKER * workers);
    this.#index = index;
    this.#workers = workers;
  }

  /** The smallest of what all have brought. Throws a MeetingEndedError when it is over. */
  smallest<Value extends number>(own: Value): Value {
    this.#parity ^= 1;
    this.#bring(0, own);
    this.#wait();
    let smallest: number = own;
    for (let worker = 0; worker < this.#workers; worker++) {
      const value = this.#values[this.#at(worker)]!;
      if (value < smallest) smallest = value;
    }
    return smallest as Value;
  }

  /** The sum over all workers of each number; at most eight. */
  sums(own: readonly number[]): number[] {
    this.#parity ^= 1;
    for (const [i, value] of own.entries()) this.#bring(i, value);
    this.#wait();
    return own.map((_, i) => {
      let sum = 0;
      for (let worker = 0; worker < this.#workers; worker++) sum += this.#values[this.#at(worker) + i]!;
      return sum;
    });
  }

  /** Nobody is to wait any more. */
  end(): void {
    Atomics.store(this.#control, ENDED, 1);
    Atomics.add(this.#control, ROUND, 1);
    Atomics.notify(this.#control, ROUND);
  }

  /** Throws if {@link end} was called. */
  check(): void {
    if (Atomics.load(this.#control, ENDED) !== 0) throw new MeetingEndedError('the run has ended in another worker');
  }

  #bring(i: number, value: number): void {
    this.#values[this.#at(this.#index) + i] = value;
  }

  #at(worker: number): number {
    return (this.#parity * this.#workers + worker) * VALUES_PER_WORKER;
  }

  #wait(): void {
    const control = this.#control;
    const round = Atomics.load(control, ROUND);
    this.check(); // whoever ends it after this goes on to another round
    if (Atomics.add(control, ARRIVED, 1) === this.#workers - 1) {
      Atomics.store(control, ARRIVED, 0);
      Atomics.add(control, ROUND, 1);
      if (Atomics.load(control, SLEEPERS) > 0) Atomics.notify(control, ROUND);
    } else if (!this.#look(round)) {
      this.#sleep(round);
    }
    this.check();
  }

  #look(round: number): boolean {
    const givesWay = this.#vain >= VAIN_LOOKS && this.#vain % MEETINGS_BETWEEN_TRIES !== 0;
    const looks = givesWay ? LEAST_LOOKS : MOST_LOOKS;
    for (let look = 0; look < looks; look++) {
      if (Atomics.load(this.#control, ROUND) === round) continue;
      if (!givesWay) this.#vain = 0;
      return true;
    }
    this.#vain++;
    return false;
  }

  /** Whoever ends the round looks for sleepers after that, and a sleeper for the round after it has said that it is one. */
  #sleep(round: number): void {
    const control = this.#control;
    Atomics.add(control, SLEEPERS, 1);
    while (Atomics.load(control, ROUND) === round) Atomics.wait(control, ROUND, round);
    Atomics.sub(control, SLEEPERS, 1);
  }
}
