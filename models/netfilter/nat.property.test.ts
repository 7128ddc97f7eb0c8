import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { type RandomStream, RandomStreams } from '../../engine/random.ts';
import { START } from '../../engine/time.ts';
import type { Frame } from '../packet/frame.ts';
import { formatIp, parseAddress } from '../packet/ip-address.ts';
import type { ConnectionTuple } from './connection-tuple.ts';
import { zoneIdOf, zoneOf } from './connection-zone.ts';
import { Conntrack } from './conntrack.ts';
import { DESTINATION, Nat, type NatMapping, SOURCE } from './nat.ts';
import { answerTo, readPacket, TestNode } from './netfilter.fixture.ts';

/** One family's names for the same few ends, so that translated tuples meet. */
interface World {
  readonly ping: string;
  readonly client: (host: number) => string;
  readonly servers: readonly string[];
  readonly rulesets: fc.Arbitrary<string>;
}

const IPV4: World = {
  ping: 'icmp',
  client: (host) => `10.244.1.${host}`,
  servers: ['10.96.0.10', '10.96.0.11', '10.244.2.2', '10.244.2.3', '10.244.9.9'],
  rulesets: rulesetsOf(
    [
      'nat PREROUTING -d 10.96.0.10 -j DNAT --to-destination 10.244.2.2',
      'nat PREROUTING -d 10.96.0.0/28 -j DNAT --to-destination 10.244.2.2-10.244.2.3',
    ],
    [
      'nat POSTROUTING -s 10.244.0.0/16 -j MASQUERADE',
      'nat POSTROUTING -s 10.244.0.0/16 -j MASQUERADE --random-fully',
      'nat POSTROUTING -j SNAT --to-source 192.0.2.1-192.0.2.2',
    ],
    'filter FORWARD -m conntrack --ctstate INVALID',
  ),
};

const IPV6: World = {
  ping: 'icmpv6',
  client: (host) => `fd01::${host}`,
  servers: ['fd96::a', 'fd96::b', 'fd02::2', 'fd02::3', 'fd09::9'],
  rulesets: rulesetsOf(
    [
      'ip6 nat PREROUTING -d fd96::a -j DNAT --to-destination fd02::2',
      'ip6 nat PREROUTING -d fd96::/64 -j DNAT --to-destination fd02::2-fd02::3',
    ],
    [
      'ip6 nat POSTROUTING -s fd01::/16 -j MASQUERADE',
      'ip6 nat POSTROUTING -s fd01::/16 -j MASQUERADE --random-fully',
      'ip6 nat POSTROUTING -j SNAT --to-source fd77::ffff:ffff:ffff-fd77:0:0:1::1',
    ],
    'ip6 filter FORWARD -m conntrack --ctstate INVALID',
  ),
};

function rulesetsOf(dnats: readonly string[], snats: readonly string[], tracking: string): fc.Arbitrary<string> {
  return fc
    .tuple(fc.constantFrom('', ...dnats), fc.constantFrom('', ...snats))
    .map((rules) => [tracking, ...rules].filter((rule) => rule !== '').join('\n'));
}

const packetsOf = ({ ping, client, servers }: World): fc.Arbitrary<string> =>
  fc
    .record({
      protocol: fc.constantFrom('udp', 'tcp', ping),
      host: fc.integer({ min: 2, max: 4 }),
      port: fc.constantFrom(53, 600, 4000, 4001),
      server: fc.constantFrom(...servers),
      serverPort: fc.constantFrom(53, 80),
    })
    .map(({ protocol, host, port, server, serverPort }) => {
      if (protocol === ping) return `${ping} ${client(host)} > ${server} ${ping === 'icmp' ? 8 : 128}/0 id ${port}`;
      return `${protocol} ${socket(client(host), port)} > ${socket(server, serverPort)}`;
    });

const socket = (ip: string, port: number): string => (ip.includes(':') ? `[${ip}]:${port}` : `${ip}:${port}`);

describe.each([
  { name: 'IPv4', world: IPV4, local: '10.244.1.1' },
  { name: 'IPv6', world: IPV6, local: 'fd01::1' },
])('in $name', ({ world, local }) => {
  const packets = packetsOf(world);

  test('the answer to a translated packet, translated back, is the answer to the original packet', () => {
    fc.assert(
      fc.property(world.rulesets, fc.array(packets, { minLength: 1, maxLength: 60 }), (rules, sent) => {
        const node = new TestNode({ rules, local: [local] });
        const received = new Map(sent.map((packet) => [packet, node.forward(packet)]));
        for (const [packet, translated] of received) {
          const isTcp = packet.startsWith('tcp');
          expect(node.forward(`${answerTo(translated)}${isTcp ? ' S. ack 1' : ''}`)).toBe(answerTo(packet));
        }
      }),
      { numRuns: 100 },
    );
  });

  test('no two connections look the same after translation', () => {
    fc.assert(
      fc.property(world.rulesets, fc.uniqueArray(packets, { minLength: 1, maxLength: 60 }), (rules, sent) => {
        const node = new TestNode({ rules, local: [local] });
        const translated = sent.map((packet) => node.forward(packet));
        expect(new Set(translated).size).toBe(sent.length);
      }),
      { numRuns: 100 },
    );
  });
});

test('no two entries have one tuple in one zone, whatever zones packets come in', () => {
  const packets = packetsOf(IPV4);
  const zones = fc.constantFrom(0, zoneOf(1), zoneOf(2), zoneOf(1, 'original'), zoneOf(1, 'reply'));
  fc.assert(
    fc.property(fc.array(fc.record({ packet: packets, zone: zones }), { minLength: 1, maxLength: 80 }), (sent) => {
      const { conntrack, send } = translator({ minIp: parseAddress('192.0.2.1').ip });
      for (const { packet, zone } of sent) send(packet, zone);
      const tuples = conntrack
        .list()
        .flatMap(({ original, reply, zone }) => [
          `${zoneIdOf(zone, 0)} ${describeTuple(original)}`,
          `${zoneIdOf(zone, 1)} ${describeTuple(reply)}`,
        ]);
      expect(new Set(tuples).size).toBe(tuples.length);
    }),
    { numRuns: 100 },
  );
});

const describeTuple = ({ family, protocol, srcIp, dstIp, srcPort, dstPort }: ConnectionTuple): string =>
  [protocol, formatIp(srcIp, family), srcPort, formatIp(dstIp, family), dstPort].join(' ');

/** Conntrack and NAT of one rule for all sources. */
function translator(mapping: NatMapping, random: RandomStream = new RandomStreams('nat').stream('ports')) {
  const conntrack = new Conntrack({ instant: START, current: 0 });
  const nat = new Nat(conntrack, random);
  const send = (packet: string, zone = 0): Frame => {
    const frame = readPacket(packet);
    frame.conntrackZone = zone;
    conntrack.track(frame);
    if (!nat.isDecided(frame, DESTINATION)) nat.decide(frame, DESTINATION, {});
    if (!nat.isDecided(frame, SOURCE)) nat.decide(frame, SOURCE, mapping);
    nat.translate(frame, SOURCE);
    conntrack.confirm(frame);
    return frame;
  };
  return { conntrack, send };
}

describe('the choice of a port', () => {
  const ADDRESS = parseAddress('192.0.2.1').ip;

  interface PortRange {
    readonly first: number;
    readonly last: number;
  }

  const classOf = (port: number): PortRange => {
    if (port < 512) return { first: 1, last: 511 };
    return port < 1024 ? { first: 600, last: 1023 } : { first: 1024, last: 65_535 };
  };

  /**
   * Over a set of taken ports: the own one if it may be kept and is free; else rounds of up to 128 ports from a random
   * start, each next round half as long, until one is shorter than 16 or has seen the whole range.
   */
  function slowTwin(port: number, taken: ReadonlySet<number>, range: PortRange | undefined, random: RandomStream) {
    const { first, last } = range ?? classOf(port);
    if (!taken.has(port) && (range === undefined || (port >= first && port <= last))) return port;
    const count = last - first + 1;
    for (let round = Math.min(128, count); ; round = Math.floor(round / 2)) {
      const start = random.int(65_536);
      for (let i = 0; i < round; i++) {
        const candidate = first + (((start + i) % 65_536) % count);
        if (!taken.has(candidate)) return candidate;
      }
      if (round >= count || round < 16) return undefined;
    }
  }

  const choices = fc
    .record({
      seed: fc.string(),
      port: fc.constantFrom(53, 511, 600, 1023),
      range: fc.constantFrom(undefined, [5000, 5003], [5000, 5000], [1, 300], [600, 900]),
      // One port in so many is free.
      oneFreeIn: fc.constantFrom(2, 20, 200, 10_000),
    })
    .map(({ range, ...choice }) => ({ ...choice, range: range && { first: range[0]!, last: range[1]! } }));

  test('is that of its slow twin, which may find none', () => {
    fc.assert(
      fc.property(choices, ({ seed, port, range, oneFreeIn }) => {
        const { first, last } = range ?? classOf(port);
        const holes = new RandomStreams(seed).stream('holes');
        const taken = new Set<number>();
        for (let candidate = first; candidate <= last; candidate++)
          if (holes.int(oneFreeIn) !== 0) taken.add(candidate);

        const mapping = { minIp: ADDRESS, ...(range && { minPort: range.first, maxPort: range.last }) };
        const random = new RandomStreams(seed).stream('ports');
        const { conntrack, send } = translator(mapping, random);
        // A connection of the address itself has the answer's tuple.
        for (const used of taken) confirm(conntrack, readPacket(`udp 192.0.2.1:${used} > 10.244.9.9:80`));
        const { srcPort } = send(`udp 10.244.1.2:${port} > 10.244.9.9:80`);

        const twinRandom = new RandomStreams(seed).stream('ports');
        const expected = slowTwin(port, taken, range, twinRandom);
        expect(conntrack.count - taken.size).toBe(expected === undefined ? 0 : 1);
        if (expected !== undefined) expect(srcPort).toBe(expected);
        expect(random.int(65_536)).toBe(twinRandom.int(65_536)); // both began as many rounds
      }),
      { numRuns: 200 },
    );
  });

  test('is spread evenly over the class of the port, with --random-fully', () => {
    const { send } = translator({ minIp: ADDRESS, randomFully: true });
    const counts = new Map<number, number>();
    for (let flow = 0; flow < 51_100; flow++) {
      const packet = `udp 10.244.1.2:53 > 10.${100 + (flow >> 16)}.${(flow >> 8) & 255}.${flow & 255}:80`;
      const { srcPort } = send(packet);
      counts.set(srcPort, (counts.get(srcPort) ?? 0) + 1);
    }
    // 100 flows are expected per port from 1 to 511. With 510 degrees of freedom, 99.9 % of fair dice stay below 613.
    expect([...counts.keys()].every((port) => port >= 1 && port <= 511)).toBe(true);
    const chiSquare = [...counts.values()].reduce((sum, count) => sum + (count - 100) ** 2 / 100, 0);
    expect(counts.size).toBe(511);
    expect(chiSquare).toBeLessThan(613);
  });
});

function confirm(conntrack: Conntrack, frame: Frame): void {
  conntrack.track(frame);
  conntrack.confirm(frame);
}
