/**
 * `[...list, item]`, no longer than it needs to be: an array that grows takes room for 17, and there are several lists for each
 * of many thousand objects. `concat()` does the same, in 0.3 µs where this takes 0.01.
 */
export function appended<T>(list: readonly T[], item: T): T[] {
  switch (list.length) {
    case 0:
      return [item];
    case 1:
      return [list[0]!, item];
    case 2:
      return [list[0]!, list[1]!, item];
    case 3:
      return [list[0]!, list[1]!, list[2]!, item];
    default:
      return list.concat([item]);
  }
}
