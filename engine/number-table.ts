// Numbers that change, of many objects, side by side. In a field each number that may pass 2^31 is an object of its own in
// V8, and a line of the processor's cache: an instant, or time that adds up.

const FIRST_CAPACITY = 1_024;

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
