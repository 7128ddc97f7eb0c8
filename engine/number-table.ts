// Numbers that change, of many objects, side by side. In a field each number that may pass 2^31 is an object of its own in
// V8, and a line of the processor's cache: an instant, or time that adds up.

const FIRST_CAPACITY = 1_024;

/**
 * First value of a field that will hold numbers beyond 2^31: then V8 takes it for one of any numbers from the start. If it
 * finds out in the middle of a run (after 2.1 s in nanoseconds), it throws away all that it had compiled for smaller ones.
 */
export const UNBOXED = Number.NaN;

export class NumberTable {
  /** Read it anew for each use: it is another array when the table has grown. */
  values = new Float64Array(FIRST_CAPACITY);
  #used = 0;

  /** Where `count` zeros stand from now on. */
  add(count: number): number {
    const first = this.#used;
    this.#used += count;
    if (this.#used > this.values.length) {
      const grown = new Float64Array(2 * this.#used);
      grown.set(this.values);
      this.values = grown;
    }
    return first;
  }
}
