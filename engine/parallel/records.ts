// Records of numbers and texts in a ring of words. A text crosses once; after that its number does. Both ends count texts
// alike, because records are read in the order in which they were written.

import type { WordRing } from './word-ring.ts';

const FLOAT = new Float64Array(1);
const FLOAT_WORDS = new Int32Array(FLOAT.buffer);

/** Records are shorter than this. */
export const MOST_RECORD_WORDS = 2 ** 15;
const MOST_TEXT_CHARACTERS = 2 ** 13;

export class RecordWriter {
  readonly #ring: WordRing;
  readonly #texts = new Map<string, number>();

  constructor(ring: WordRing) {
    this.#ring = ring;
  }

  hasRoom(): boolean {
    return this.#ring.hasRoom(MOST_RECORD_WORDS);
  }

  /** A signed integer of 32 bits. */
  put(word: number): void {
    this.#ring.put(word);
  }

  putFloat(value: number): void {
    FLOAT[0] = value;
    this.#ring.put(FLOAT_WORDS[0]!);
    this.#ring.put(FLOAT_WORDS[1]!);
  }

  /** One of few different texts, such as a name. */
  putText(text: string): void {
    const known = this.#texts.get(text);
    if (known !== undefined) return this.#ring.put(known);
    this.#ring.put(this.#texts.size);
    this.#texts.set(text, this.#texts.size);
    this.#putCharacters(text);
  }

  /** One that will not come again. */
  putLoneText(text: string): void {
    this.#putCharacters(text);
  }

  #putCharacters(text: string): void {
    if (text.length > MOST_TEXT_CHARACTERS)
      throw new RangeError(`a text of ${text.length} characters; expected at most ${MOST_TEXT_CHARACTERS}`);
    this.#ring.put(text.length);
    for (let i = 0; i < text.length; i++) this.#ring.put(text.charCodeAt(i));
  }

  /** The reader may have all records. */
  publish(): void {
    this.#ring.publish();
  }
}

export class RecordReader {
  readonly #ring: WordRing;
  readonly #texts: string[] = [];

  constructor(ring: WordRing) {
    this.#ring = ring;
  }

  /** Is there a record? Records are published whole. */
  hasRecord(): boolean {
    return this.#ring.available > 0;
  }

  /** Of a record that is there: its first word. */
  peek(): number {
    return this.#ring.peek();
  }

  take(): number {
    return this.#ring.take();
  }

  takeFloat(): number {
    FLOAT_WORDS[0] = this.#ring.take();
    FLOAT_WORDS[1] = this.#ring.take();
    return FLOAT[0]!;
  }

  takeText(): string {
    const number = this.#ring.take();
    if (number === this.#texts.length) this.#texts.push(this.takeLoneText());
    return this.#texts[number]!;
  }

  takeLoneText(): string {
    let text = '';
    for (let left = this.#ring.take(); left > 0; left--) text += String.fromCharCode(this.#ring.take());
    return text;
  }

  /** Room for further records. */
  release(): void {
    this.#ring.release();
  }
}
