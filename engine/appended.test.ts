import { expect, test } from 'vitest';
import { appended } from './appended.ts';

test('one more stands at the end, and the list is as it was', () => {
  let list: readonly (number | readonly number[])[] = [];
  for (let length = 0; length < 8; length++) {
    const before = list.slice();
    const item = length === 5 ? [length] : length; // a list as an item stays one
    const longer = appended(list, item);
    expect(list).toEqual(before);
    expect(longer).toEqual([...before, item]);
    list = longer;
  }
});
