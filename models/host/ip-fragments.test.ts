// Packets that are too large, and the pieces that they are cut into: each figure as seen on Linux 6.18.

import { beforeEach, describe, expect, test } from 'vitest';
import { s } from '../../engine/time.ts';
import type { Frame, Message } from '../packet/frame.ts';
import { encodeFrame } from '../packet/wire-bytes.ts';
import { type LabNode, loadRules, PacketLab } from './packet-lab.fixture.ts';

let lab: PacketLab;
let n1: LabNode;
let n2: LabNode;

beforeEach(() => {
  lab = new PacketLab();
  n1 = lab.addNode('n1', { ip: '192.168.0.1', podRange: '10.244.1.0/24' });
  n2 = lab.addNode('n2', { ip: '192.168.0.2', podRange: '10.244.2.0/24' });
  lab.addPod(n1, 'p1', { ip: '10.244.1.2' });
  lab.addPod(n1, 'p2', { ip: '10.244.1.3' });
  lab.addPod(n2, 'p3', { ip: '10.244.2.2' });
});

const TRACKING = `*filter
  :FORWARD ACCEPT [0:0]
  -A FORWARD -m conntrack --ctstate INVALID -j ACCEPT
  COMMIT`;

/** Sends fragments whose sizes are those of the data after the IP header; returns what the target got: `1396 at 0 more`. */
function arrive(
  target: string,
  to: string,
  sizes: readonly number[],
  options: { order?: number[]; df?: boolean } = {},
): string[] {
  const { order = sizes.map((_, i) => i), df = false } = options;
  const offsets = sizes.map((_, i) => sizes.slice(0, i).reduce((sum, size) => sum + size, 0));
  const got: string[] = [];
  const pod = lab.pod(target);
  pod.device.tap = (frame, direction) => {
    if (direction === 'in' && frame.dstIp === pod.ip && frame.etherType === 0x800) got.push(pieceOf(frame));
  };
  for (const i of order) {
    const fragmentOffset = offsets[i]!;
    lab.send('p1', `udp 10.244.1.2:1000 > ${to}:53`, {
      identification: 7,
      fragmentOffset,
      moreFragments: i < sizes.length - 1,
      dontFragment: df,
      payloadBytes: sizes[i]! - (fragmentOffset === 0 ? 8 : 0),
    });
  }
  return got;
}

const pieceOf = (frame: Frame): string =>
  `${frame.sizeBytes - 14} at ${frame.fragmentOffset}${frame.moreFragments ? ' more' : ''}${frame.dontFragment ? ' df' : ''}`;

const P3 = '10.244.2.2';

describe('a router', () => {
  test('sends fragments on as they are', () => {
    expect(arrive('p3', P3, [1376, 72])).toEqual(['1396 at 0 more', '92 at 1376']);
  });

  test('cuts what is too large for the next link, fragments too', () => {
    narrow(n2, 1000);
    expect(arrive('p3', P3, [1376, 72])).toEqual(['996 at 0 more', '420 at 976 more', '92 at 1376']);
    expect(arrive('p3', P3, [1408])).toEqual(['996 at 0 more', '452 at 976']);
  });

  test('says what fits if it must not cut: the error quotes 548 bytes', () => {
    narrow(n2, 1000);
    const seen = lab.send('p1', `udp 10.244.1.2:1 > ${P3}:2`, { dontFragment: true, payloadBytes: 1400 });
    expect(seen.at(-1)).toMatch(
      /^p1\/eth0 in 192\.168\.0\.2 > 10\.244\.1\.2 icmp 3\/4 fragmentation needed mtu 1000 about /,
    );
    expect(arrive('p3', P3, [1400], { df: true })).toEqual([]);
  });
});

describe('connection tracking puts fragments together', () => {
  beforeEach(() => loadRules(n1.root, TRACKING));

  test('and they leave as they came, in whatever order they did', () => {
    expect(arrive('p3', P3, [1376, 72])).toEqual(['1396 at 0 more', '92 at 1376']);
    expect(arrive('p3', P3, [800, 1376, 400], { order: [2, 0, 1] })).toEqual([
      '820 at 0 more',
      '1396 at 800 more',
      '420 at 2176',
    ]);
    expect(arrive('p3', P3, [16, 16])).toEqual(['36 at 0 more', '36 at 16']);
    expect(n1.root.netfilter!.conntrack.list()).toHaveLength(1);
  });

  test('without DF, even if they came with it', () => {
    expect(arrive('p3', P3, [1376, 72], { df: true })).toEqual(['1396 at 0 more', '92 at 1376']);
  });

  test('but are cut anew where they do not fit, or refused if they came with DF', () => {
    // n1 forwards to n2 by a link of 1000: 1448 bytes are 976 and 472
    narrow(n1, 1000, 'eth0');
    expect(arrive('p3', P3, [1376, 72])).toEqual(['996 at 0 more', '492 at 976']);
    expect(arrive('p3', P3, [800, 800])).toEqual(['820 at 0 more', '820 at 800']);
    expect(arrive('p3', P3, [1376, 72], { df: true })).toEqual([]);
    expect(lab.frames.drops().get('PKT_TOO_BIG')).toBe(1);
  });

  test('on a bridge they leave as they came too; up from it, the bridge has forgotten how', () => {
    n1.root.sysctl('net.bridge.bridge-nf-call-iptables', 1);
    expect(arrive('p2', '10.244.1.3', [1376, 72])).toEqual(['1396 at 0 more', '92 at 1376']);
    expect(arrive('p2', '10.244.1.3', [16, 16])).toEqual(['36 at 0 more', '36 at 16']);
    expect(arrive('p3', P3, [1376, 72])).toEqual(['1468 at 0']);
    expect(arrive('p3', P3, [16, 16], { df: true })).toEqual(['52 at 0 df']);
    narrow(n2, 1000);
    expect(arrive('p3', P3, [600, 600])).toEqual(['996 at 0 more', '244 at 976']); // n1 has put it together for good
    narrow(n1, 1000, 'eth0');
    expect(arrive('p3', P3, [800, 800])).toEqual(['820 at 0 more', '820 at 800']); // it must be cut: as it came
  });

  test('nothing leaves until the last has come; a repetition is ignored, an overlap ends the packet', () => {
    expect(arrive('p3', P3, [1376, 1376, 72], { order: [0, 2, 0] })).toEqual([]);
    expect(lab.frames.drops().get('DUP_FRAG')).toBe(1);
    lab.send('p1', `udp 10.244.1.2:1000 > ${P3}:53`, {
      identification: 7,
      fragmentOffset: 1368,
      moreFragments: true,
      payloadBytes: 104,
    });
    expect(lab.frames.drops().get('FRAG_INCONSISTENT')).toBe(3); // the two that waited with it
    expect(lab.frames.totals().inFlight).toBe(0);
  });
});

describe('the destination', () => {
  const message: Message = { id: 9, sizeBytes: 4_000 };

  test('gets a message larger than the MTU whole: 4008 bytes in three fragments', () => {
    const heard: Message[] = [];
    const server = lab.addPod(n2, 'server', { ip: '10.244.2.9', stack: true });
    server.namespace.udp.bind({ port: 53, cpu: 0 }, { onDatagram: (received) => heard.push(received) });
    const client = lab.addPod(n1, 'client', { ip: '10.244.1.9', stack: true });
    const bytes: Uint8Array[] = [];
    client.device.tap = (frame) => {
      if (frame.protocol === 17) bytes.push(encodeFrame(frame));
    };
    const socket = client.namespace.udp.bind({ cpu: 0 }, { onDatagram: () => {} });
    const seen = lab.during(() => socket.send({ ip: server.ip, port: 53 }, message));
    expect(seen.filter((line) => line.startsWith('server/eth0 in'))).toHaveLength(3);
    expect(heard).toEqual([message]);
    expect(bytes.map((frame) => frame.length - 34)).toEqual([1480, 1480, 1048]); // 8 + 4000
    // Put together, the data after the IP headers are a UDP datagram with the checksum of the whole.
    const data = Buffer.concat(bytes.map((frame) => frame.subarray(34)));
    expect(data.readUInt16BE(4)).toBe(4_008);
    expect(data.subarray(8, 30).toString()).toBe('message 9, 4000 bytes\n');
  });

  test('waits 30 s for the rest, then tells the sender that the time is over', () => {
    const part = { identification: 3, moreFragments: true, payloadBytes: 1368 };
    lab.send('p1', 'udp 10.244.1.2:1000 > 10.244.1.1:53', part);
    lab.send('p1', 'udp 10.244.1.2:1000 > 10.244.1.1:53', { identification: 4, fragmentOffset: 1376, payloadBytes: 8 });
    expect(lab.during(() => {}, s(29))).toEqual([]);
    expect(lab.during(() => {}, s(2))).toEqual([
      'p1/eth0 in 10.244.1.1 > 10.244.1.2 icmp 11/1 ttl exceeded during reassembly about 10.244.1.2:1000 > 10.244.1.1:53 udp ttl 64',
    ]);
    expect(lab.frames.drops().get('FRAG_REASM_TIMEOUT')).toBe(2);
  });

  test('keeps no more than ipfrag_high_thresh waiting', () => {
    n1.root.sysctl('net.ipv4.ipfrag_high_thresh', 3_000); // two of 1402 + 576 bytes, then no more
    for (const identification of [1, 2, 3]) {
      const part = { identification, moreFragments: true, payloadBytes: 1_368 };
      lab.send('p1', 'udp 10.244.1.2:1000 > 10.244.1.1:53', part);
    }
    expect(lab.frames.drops().get('NOMEM')).toBe(1);
  });
});

describe('a sender that is told of a narrow way', () => {
  test('cuts its datagrams itself, for ten minutes', () => {
    narrow(n2, 1000);
    const client = lab.addPod(n1, 'client', { ip: '10.244.1.9', stack: true });
    const errors: string[] = [];
    const socket = client.namespace.udp.bind(
      { cpu: 0 },
      { onDatagram: () => {}, onError: (error) => errors.push(error) },
    );
    const say = (): string[] =>
      lab
        .during(() => socket.send({ ip: lab.pod('p3').ip, port: 53 }, { id: 1, sizeBytes: 1_400 }))
        .filter((line) => line.startsWith('client/eth0 out'));
    expect(say()).toHaveLength(1);
    expect(errors).toEqual(['message too long']);
    expect(client.namespace.stack.mtuTo(lab.pod('p3').ip)).toBe(1_000);
    expect(say()).toHaveLength(2);
    lab.during(() => {}, s(600));
    expect(say()).toHaveLength(1);
  });

  test('believes nothing below min_pmtu, and then sends without DF', () => {
    const client = lab.addPod(n1, 'client', { ip: '10.244.1.9', stack: true });
    const { stack } = client.namespace;
    stack.updatePathMtu(lab.pod('p3').ip, 300);
    expect(stack.mtuTo(lab.pod('p3').ip)).toBe(552);
    const socket = client.namespace.udp.bind({ cpu: 0 }, { onDatagram: () => {} });
    const [sent] = lab.during(() => socket.send({ ip: lab.pod('p3').ip, port: 53 }, { id: 1, sizeBytes: 10 }));
    expect(sent).toBe(
      'client/eth0 out 10.244.1.9:32769 > 10.244.2.2:53 udp len 10 ttl 64'.replace('32769', portOf(sent!)),
    );
  });

  const portOf = (line: string): string => /:(\d+) >/.exec(line)![1]!;
});

/** The link to the pods of a node, or another one, takes smaller packets from now on: a device of another MTU. */
function narrow(node: LabNode, mtuBytes: number, device = 'cbr0'): void {
  node.root.deviceNamed(device).mtuBytes = mtuBytes;
}
