import fc from 'fast-check';
import { expect, test } from 'vitest';
import { CaseError } from './case-error.ts';
import { parseCase } from './case-text.ts';

const POD = { name: 'p1', ip: '10.244.1.2' };
const NODE = { name: 'n1', podCIDR: '10.244.1.0/24', pods: [POD] };
const PACKET = { from: 'p1', proto: 'udp', src: '10.244.1.2', dst: '10.96.0.10', sport: 40_000, dport: 53 };
const CASE = { topology: { nodes: [NODE] }, packets: [PACKET, { waitMs: 10 }, { flush: 'conntrack' }] };

const complaint = (value: unknown): string => {
  try {
    parseCase(typeof value === 'string' ? value : JSON.stringify(value), 'case.json');
    return 'none';
  } catch (error) {
    expect(error).toBeInstanceOf(CaseError);
    return (error as CaseError).message;
  }
};

test('a case is read as it stands', () => {
  expect(parseCase(JSON.stringify(CASE), 'case.json')).toEqual(CASE);
});

test('what is wrong is said in one line: file, place, expectation', () => {
  const packets = (...steps: object[]) => ({ ...CASE, packets: steps });
  const nodes = (...list: object[]) => ({ ...CASE, topology: { nodes: list } });
  expect(complaint('{')).toMatch(/^case.json: .*; expected JSON$/);
  expect(complaint([])).toBe('case.json: expected an object, got []');
  expect(complaint(packets({ ...PACKET, dport: 'http' }))).toBe(
    'case.json: packets[0].dport: expected a whole number from 0 to 65535, got "http"',
  );
  expect(complaint(packets({ ...PACKET, sport: undefined }))).toBe(
    'case.json: packets[0].sport: expected the sport of udp, got nothing',
  );
  expect(complaint(packets({ ...PACKET, pork: 1 }))).toBe('case.json: packets[0].pork: expected only known fields');
  expect(complaint(packets({ ...PACKET, from: 'p9' }))).toBe(
    'case.json: packets[0].from: expected a pod or NAMESPACE/DEVICE: n1, p1, fab, got "p9"',
  );
  expect(complaint(packets({ waitMs: -1 }))).toBe('case.json: packets[0].waitMs: expected milliseconds, got -1');
  expect(complaint(packets({ socket: { do: 'sing' } }))).toMatch(/packets\[0\]\.socket\.do: expected /);
  expect(complaint({ ...CASE, rules: { n7: { backend: 'legacy', text: '' } } })).toBe(
    'case.json: rules.n7: expected rules of a node: n1, got {"backend":"legacy","text":""}',
  );
  expect(complaint(nodes({ ...NODE, podCIDR: '10.244.0.0/16' }))).toMatch(
    /nodes\[0\]\.podCIDR: expected an IPv4 range/,
  );
  expect(complaint(nodes({ ...NODE, pods: [POD, POD] }))).toBe(
    'case.json: topology.nodes[0].pods[1].name: expected a name that is not taken, got "p1"',
  );
  expect(complaint(nodes(NODE, { ...NODE, name: 'n2', pods: [] }))).toBe(
    'case.json: topology.nodes[0].ip: expected an address on the fabric, got nothing',
  );
});

test('no text makes it crash', () => {
  fc.assert(fc.property(fc.string(), (text) => void complaint(text)));
  fc.assert(fc.property(fc.jsonValue(), (value) => void complaint(JSON.stringify(value))));
});

test('no field makes it crash', () => {
  const places = ['topology', 'rules', 'packets', 'topology.nodes', 'topology.nodes.0', 'packets.0', 'packets.0.src'];
  fc.assert(
    fc.property(fc.constantFrom(...places), fc.jsonValue(), (place, value) => {
      const broken = structuredClone(CASE) as object;
      const keys = place.split('.');
      const last = keys.pop()!;
      Reflect.set(
        keys.reduce((inner, key) => Reflect.get(inner, key), broken),
        last,
        value,
      );
      complaint(broken);
    }),
  );
});
