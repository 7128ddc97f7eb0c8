import { expect, test } from 'vitest';
import { after, START, s } from '../../engine/time.ts';
import { zoneOf } from './connection-zone.ts';
import { Conntrack } from './conntrack.ts';
import { formatConntrack, formatConntrackStatistics, formatProcConntrack } from './conntrack-text.ts';
import { readPacket } from './netfilter.fixture.ts';

// Lines in this file were printed by conntrack-tools 1.4.7 and by /proc on Linux 6.18, 100 ms after the last packet.

interface Sent {
  readonly zone?: number;
  readonly mark?: number;
  /** With its answer; in seconds after it, once more. */
  readonly answered?: string;
}

function entryOf(packet: string, { zone = 0, mark = 0, answered }: Sent = {}) {
  const clock = { instant: START, current: 0 };
  const conntrack = new Conntrack(clock);
  const send = (text: string): void => {
    const frame = readPacket(text);
    frame.conntrackZone = zone;
    conntrack.track(frame);
    conntrack.setMark(frame, mark);
    conntrack.confirm(frame);
  };
  send(packet);
  if (answered !== undefined) {
    send(answered);
    clock.instant = after(START, s(2.1));
    send(packet);
  }
  return { entry: conntrack.list()[0]!, now: after(clock.instant, s(0.1)) };
}

test.each([
  [
    'tcp [fd01::2]:4000 > [fd02::2]:80',
    {},
    'ipv6     10 tcp      6 119 SYN_SENT src=fd01::2 dst=fd02::2 sport=4000 dport=80 [UNREPLIED] src=fd02::2 dst=fd01::2 sport=80 dport=4000 mark=0 use=1',
  ],
  [
    'icmpv6 fd01::2 > fd02::2 128/0 id 7',
    {},
    'ipv6     10 icmpv6   58 29 src=fd01::2 dst=fd02::2 type=128 code=0 id=7 [UNREPLIED] src=fd02::2 dst=fd01::2 type=129 code=0 id=7 mark=0 use=1',
  ],
  [
    '47 fd01::2 > fd02::2',
    {},
    'ipv6     10 gre      47 29 src=fd01::2 dst=fd02::2 srckey=0x0 dstkey=0x0 [UNREPLIED] src=fd02::2 dst=fd01::2 srckey=0x0 dstkey=0x0 mark=0 use=1',
  ],
  [
    'udp 10.1.0.2:4000 > 10.2.0.2:1',
    { zone: zoneOf(5) },
    'ipv4     2 udp      17 29 src=10.1.0.2 dst=10.2.0.2 sport=4000 dport=1 [UNREPLIED] src=10.2.0.2 dst=10.1.0.2 sport=1 dport=4000 mark=0 zone=5 use=1',
  ],
  [
    'udp 10.1.0.2:4000 > 10.2.0.2:2',
    { zone: zoneOf(6, 'original') },
    'ipv4     2 udp      17 29 src=10.1.0.2 dst=10.2.0.2 sport=4000 dport=2 zone-orig=6 [UNREPLIED] src=10.2.0.2 dst=10.1.0.2 sport=2 dport=4000 mark=0 use=1',
  ],
  [
    'udp 10.1.0.2:4000 > 10.2.0.2:3',
    { zone: zoneOf(7, 'reply') },
    'ipv4     2 udp      17 29 src=10.1.0.2 dst=10.2.0.2 sport=4000 dport=3 [UNREPLIED] src=10.2.0.2 dst=10.1.0.2 sport=3 dport=4000 zone-reply=7 mark=0 use=1',
  ],
  [
    'udp 10.1.0.2:4000 > 10.2.0.2:4',
    { mark: 0x4000, answered: 'udp 10.2.0.2:4 > 10.1.0.2:4000' },
    'ipv4     2 udp      17 119 src=10.1.0.2 dst=10.2.0.2 sport=4000 dport=4 src=10.2.0.2 dst=10.1.0.2 sport=4 dport=4000 [ASSURED] mark=16384 use=1',
  ],
])('conntrack -L -o extended after %s', (packet, sent, line) => {
  const { entry, now } = entryOf(packet, sent);
  expect(formatConntrack(entry, now, { extended: true })).toBe(line);
  expect(formatConntrack(entry, now)).toBe(line.replace(/^ipv\d +\d+ /, ''));
});

test.each([
  [
    '47 fd01::2 > fd02::2',
    {},
    'ipv6     10 gre      47 29 timeout=30, stream_timeout=180 src=fd01:0000:0000:0000:0000:0000:0000:0002 dst=fd02:0000:0000:0000:0000:0000:0000:0002 srckey=0x0 dstkey=0x0 [UNREPLIED] src=fd02:0000:0000:0000:0000:0000:0000:0002 dst=fd01:0000:0000:0000:0000:0000:0000:0002 srckey=0x0 dstkey=0x0 mark=0 zone=0 use=2',
  ],
  [
    'udp 10.1.0.2:4000 > 10.2.0.2:2',
    { zone: zoneOf(6, 'original') },
    'ipv4     2 udp      17 29 src=10.1.0.2 dst=10.2.0.2 sport=4000 dport=2 zone-orig=6 [UNREPLIED] src=10.2.0.2 dst=10.1.0.2 sport=2 dport=4000 mark=0 use=2',
  ],
  [
    'tcp 10.1.0.2:4000 > 10.2.0.2:80',
    { zone: zoneOf(5) },
    'ipv4     2 tcp      6 119 SYN_SENT src=10.1.0.2 dst=10.2.0.2 sport=4000 dport=80 [UNREPLIED] src=10.2.0.2 dst=10.1.0.2 sport=80 dport=4000 mark=0 zone=5 use=2',
  ],
])('/proc/net/nf_conntrack after %s', (packet, sent, line) => {
  const { entry, now } = entryOf(packet, sent);
  expect(formatProcConntrack(entry, now)).toBe(line);
});

test('conntrack -S has a line per CPU, and what each of them has counted', () => {
  const clock = { instant: START, current: 1 };
  const conntrack = new Conntrack(clock);
  conntrack.track(readPacket('tcp 10.1.0.2:4000 > 10.2.0.2:80 S.'));
  conntrack.track(readPacket('tcp 10.1.0.2:4000 > 10.2.0.2:80 R'));
  expect(formatConntrackStatistics([0, 1].map((cpu) => conntrack.statisticsOf(cpu)))).toBe(
    'cpu=0   \tfound=0 invalid=0 insert=0 insert_failed=0 drop=0 early_drop=0 error=0 search_restart=0 clash_resolve=0 chaintoolong=0 \n' +
      'cpu=1   \tfound=0 invalid=2 insert=0 insert_failed=0 drop=0 early_drop=0 error=0 search_restart=0 clash_resolve=0 chaintoolong=0 \n',
  );
  expect(conntrack.statistics.invalid).toBe(2);
});
