// What delta debugging tries of a list: everything but one part, for parts of falling size.

/** A list without half of it, without a quarter, … without one item. */
export function* withoutChunks<T>(items: readonly T[]): Iterable<T[]> {
  for (let size = Math.ceil(items.length / 2); size >= 1; size = size === 1 ? 0 : Math.ceil(size / 2)) {
    for (let start = 0; start < items.length; start += size) {
      yield [...items.slice(0, start), ...items.slice(start + size)];
    }
  }
}
