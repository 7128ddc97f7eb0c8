import { expect, test } from 'vitest';
import { RandomStream } from '../../../engine/random.ts';
import { ServiceOrder } from './service-order.ts';

test('an order is the same whether anybody has asked for those of earlier syncs or not', () => {
  const syncs = [[1, 2, 3, 4, 5], [], [6], [1, 2, 3], [9, 8, 7, 6]];
  const random = new RandomStream('orders');
  const all = syncs.map((items) => random.shuffle(items));
  for (const asked of [[4], [0, 4], [1, 2, 4], [0, 1, 2, 3, 4]]) {
    const order = new ServiceOrder(new RandomStream('orders'));
    for (const [i, items] of syncs.entries()) {
      const shuffled = order.next(items.length);
      if (asked.includes(i)) expect(Array.from(shuffled(), (item) => items[item])).toEqual(all[i]);
    }
  }
});

test('an order that is gone cannot be had', () => {
  const order = new ServiceOrder(new RandomStream('orders'));
  const first = order.next(3);
  order.next(3);
  expect(first).toThrow('before the next sync');
});
