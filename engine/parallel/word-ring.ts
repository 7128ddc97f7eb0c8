// A ring of 32-bit words in shared memory, from one thread that writes records to one that reads them.
//
// The writer's words are seen when it calls `publish`, once for many records, so that the two do not take the same line of
// the processors' caches from each other all the time. A record is never seen in part.

/** Words in front of the data, each count in a line of the cache of its own. */
const WRITTEN = 0;
const READ = 16;
const HEADER_WORDS = 32;

export class WordRing {
  readonly #words: Int32Array;
  readonly #mask: number;
  // Counts of words since the beginning, modulo 2^32; what is in the ring is their difference.
  #position = 0;
  #published = 0;
  #read = 0;

  /** Both threads make one over the same memory, of {@link ringBytes}, which is zero at first. */
  constructor(memory: SharedArrayBuffer, { byteOffset, capacityWords }: { byteOffset: number; capacityWords: number }) {
    if (capacityWords < 2 || (capacityWords & (capacityWords - 1)) !== 0)
      throw new RangeError(`a ring of ${capacityWords} words; expected a power of two`);
    this.#words = new Int32Array(memory, byteOffset, HEADER_WORDS + capacityWords);
    this.#mask = capacityWords - 1;
  }

  get capacityWords(): number {
    return this.#mask + 1;
  }

  // ── the writer ─────────────────────────────────────────────────────────────────────────────────────────────────────

  /** Have so many words room? */
  hasRoom(count: number): boolean {
    if (((this.#position - this.#read) | 0) + count <= this.capacityWords) return true;
    this.#read = Atomics.load(this.#words, READ);
    return ((this.#position - this.#read) | 0) + count <= this.capacityWords;
  }

  /** Only where there is room. */
  put(word: number): void {
    this.#words[HEADER_WORDS + (this.#position & this.#mask)] = word;
    this.#position = (this.#position + 1) | 0;
  }

  /** The reader may have all that has been put. */
  publish(): void {
    if (this.#published === this.#position) return;
    this.#published = this.#position;
    Atomics.store(this.#words, WRITTEN, this.#position);
  }

  // ── the reader ─────────────────────────────────────────────────────────────────────────────────────────────────────

  /** Words that may be taken. */
  get available(): number {
    return (Atomics.load(this.#words, WRITTEN) - this.#position) | 0;
  }

  /** What {@link take} will take. */
  peek(): number {
    return this.#words[HEADER_WORDS + (this.#position & this.#mask)]!;
  }

  /** Only what is {@link available}. */
  take(): number {
    const word = this.#words[HEADER_WORDS + (this.#position & this.#mask)]!;
    this.#position = (this.#position + 1) | 0;
    return word;
  }

  /** The writer may overwrite what has been taken. */
  release(): void {
    if (this.#published === this.#position) return;
    this.#published = this.#position;
    Atomics.store(this.#words, READ, this.#position);
  }
}

export const ringBytes = (capacityWords: number): number => 4 * (HEADER_WORDS + capacityWords);
