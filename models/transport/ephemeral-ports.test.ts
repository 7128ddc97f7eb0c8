import { expect, test } from 'vitest';
import { RandomStreams } from '../../engine/random.ts';
import { parseIp } from '../packet/ip-address.ts';
import { EphemeralPorts, FIRST_LOCAL_PORT, LAST_LOCAL_PORT } from './ephemeral-ports.ts';

const local = parseIp('10.0.0.1');
const remote = { ip: parseIp('10.0.0.2'), port: 80 };
const ports = (): EphemeralPorts => new EphemeralPorts(new RandomStreams('ports').stream('test'));

test('connections to one destination take rising even ports, 2 to 16 apart', () => {
  const chooser = ports();
  const chosen = Array.from({ length: 100 }, () => chooser.forConnect(local, remote, () => true)!);
  const range = LAST_LOCAL_PORT - FIRST_LOCAL_PORT + 1;
  for (let i = 1; i < chosen.length; i++) {
    const step = (chosen[i]! - chosen[i - 1]! + range) % range;
    expect(step % 2).toBe(0);
    expect(step).toBeGreaterThanOrEqual(2);
    expect(step).toBeLessThanOrEqual(16);
  }
});

test('odd ports are taken when no even one is left, and then none', () => {
  const chooser = new EphemeralPorts(new RandomStreams('ports').stream('test'), {
    range: { first: 40_000, last: 40_099 },
  });
  const used: number[] = [];
  for (let i = 0; i < 100; i++) used.push(chooser.forConnect(local, remote, (port) => !used.includes(port))!);
  expect(new Set(used).size).toBe(100);
  expect(used.slice(0, 50).every((port) => port % 2 === 0)).toBe(true);
  expect(used.slice(50).every((port) => port % 2 === 1)).toBe(true);
  expect(chooser.forConnect(local, remote, (port) => !used.includes(port))).toBeUndefined();
});

test('bind() takes a free port at random', () => {
  const chooser = ports();
  const chosen = new Set(Array.from({ length: 50 }, () => chooser.forBind(() => true)));
  expect(chosen.size).toBeGreaterThan(45);
  expect(chooser.forBind((port) => port === 40_001)).toBe(40_001);
  expect(chooser.forBind(() => false)).toBeUndefined();
});
