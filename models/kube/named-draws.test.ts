import { expect, test } from 'vitest';
import { RandomStreams } from '../../engine/random.ts';
import { NamedDraws, templateHash } from './named-draws.ts';

const draws = (seed: string) => new NamedDraws(new RandomStreams(seed).stream('names'));

test('a draw depends on the seed and the name alone', () => {
  const one = draws('one');
  const first = one.draw('web', 1_000_000);
  one.draw('api', 1_000_000);
  expect(one.draw('web', 1_000_000)).toBe(first);
  expect(draws('one').draw('web', 1_000_000)).toBe(first);
  expect(draws('two').draw('web', 1_000_000)).not.toBe(first);
});

test('names that differ in one digit fall anywhere: 10,000 of them into 100 cells of about 100', () => {
  const cells = new Array<number>(100).fill(0);
  const some = draws('one');
  for (let i = 0; i < 10_000; i++) cells[some.draw(`default/web ${i}`, 100)]!++;
  // Chi-square with 99 degrees of freedom exceeds 149 once in a thousand times.
  expect(cells.reduce((sum, count) => sum + (count - 100) ** 2 / 100, 0)).toBeLessThan(149);
});

test('hashes of templates are spelled as pod-template-hash is', () => {
  expect(templateHash('{"image":"nginx"}')).toMatch(/^[bcdf-hj-np-tv-z24-9]{1,10}$/);
  expect(templateHash('{"image":"nginx"}')).not.toBe(templateHash('{"image":"httpd"}'));
});
