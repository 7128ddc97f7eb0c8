import { readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { inSeconds, START, s } from '../../engine/time.ts';
import { Frame, PROTOCOL_TCP, TCP_ACK, TCP_FIN, TCP_PSH, TCP_RST, TCP_SYN, TCP_URG } from '../packet/frame.ts';
import { parseIp } from '../packet/ip-address.ts';
import { Conntrack, type ConntrackSettings } from './conntrack.ts';
import { CONNTRACK_STATE_BITS, CONNTRACK_STATES } from './conntrack-state.ts';

const CLIENT = parseIp('10.244.1.2');
const SERVER = parseIp('10.244.1.3');

describe.each(['tcp-tracking.txt', 'tcp-tracking-cells.txt', 'tcp-tracking-random.txt'])(
  'the kernel, segment by segment (testdata/%s)',
  (file) => {
    const text = readFileSync(new URL(`testdata/${file}`, import.meta.url), 'utf8');
    for (const block of text.trim().split('\n\n').slice(1)) {
      const [title = '', ...lines] = block.split('\n');
      test(title, () => {
        const conntrack = new Conntrack({ instant: START, current: 0 }, settingsIn(title));
        expect(lines.map((line) => answer(conntrack, line))).toEqual(lines);
      });
    }

    test('packets whose connection is known are followed the same without a lookup', () => {
      let followed = 0;
      for (const block of text.trim().split('\n\n').slice(1)) {
        const [title = '', ...lines] = block.split('\n');
        const conntrack = new Conntrack({ instant: START, current: 0 }, settingsIn(title));
        const handles = new Map<boolean, number>();
        for (const line of lines) {
          const frame = segmentOf(line);
          const fromClient = frame.srcIp === CLIENT;
          const handle = handles.get(fromClient);
          // Flows are known by packets that were not the connection's first.
          const isReply = conntrack.list()[0]?.original.srcIp !== frame.srcIp;
          if (handle !== undefined && conntrack.trackAgain(frame, handle, isReply)) {
            followed++;
            expect(`${stimulusOf(line)}${'ESTABLISHED'.padEnd(12)}${entryOf(conntrack)}`).toBe(line);
          } else {
            expect(answer(conntrack, line, frame)).toBe(line);
            handles.set(fromClient, frame.conntrackEntry);
          }
        }
      }
      expect(followed).toBeGreaterThan(0);
    });
  },
);

describe('windows and their scale', () => {
  test('a window scale that both sides offer lets data far ahead of an unscaled window pass', () => {
    const connection = established({ clientScale: 7, serverScale: 7 });
    // The client's ACK offered 1,000 << 7 = 128,000 bytes from 5001 on.
    expect(connection.reply({ flags: TCP_ACK, sequence: 5001 + 100_000, acknowledgment: 1001, bytes: 100 })).toBe(
      'ESTABLISHED',
    );
  });

  test('a window scale that only the client offers counts for neither side', () => {
    const connection = established({ clientScale: 7, serverScale: -1 });
    expect(connection.reply({ flags: TCP_ACK, sequence: 5001 + 100_000, acknowledgment: 1001, bytes: 100 })).toBe(
      'INVALID',
    );
  });

  test('a scale above 14 counts as 14', () => {
    const connection = established({ clientScale: 15, serverScale: 0 });
    // 1,000 << 14 = 16,384,000 bytes; with a shift of 15 the second segment would fit too.
    expect(connection.reply({ flags: TCP_ACK, sequence: 5001 + 16_384_000, acknowledgment: 1001, bytes: 1 })).toBe(
      'ESTABLISHED',
    );
    expect(connection.reply({ flags: TCP_ACK, sequence: 5001 + 33_000_000, acknowledgment: 1001, bytes: 1 })).toBe(
      'INVALID',
    );
  });
});

test('kube-proxy sets the timeout of established connections to one day', () => {
  const conntrack = new Conntrack({ instant: START, current: 0 });
  conntrack.configure({ tcpTimeouts: { ...conntrack.settings.tcpTimeouts, ESTABLISHED: s(86_400) } });
  const lines = [
    '  > S   1000       0          0     64240   NEW         SYN_SENT 120 UNREPLIED',
    '  < SA  5000       1001       0     64240   ESTABLISHED SYN_RECV 60',
    '  > A   1001       5001       0     64240   ESTABLISHED ESTABLISHED 86400 ASSURED',
  ];
  expect(lines.map((line) => answer(conntrack, line))).toEqual(lines);
});

/** The line with what conntrack answers in place of what the kernel did. */
function answer(conntrack: Conntrack, line: string, frame = segmentOf(line)): string {
  conntrack.track(frame);
  const state = stateOf(frame);
  conntrack.confirm(frame);
  return `${stimulusOf(line)}${state.padEnd(12)}${entryOf(conntrack)}`;
}

const STIMULUS = /^( {2}([<>]) +(\S+) +(\d+) +(\d+) +(\d+) +(\d+) +)/;
const stimulusOf = (line: string): string => STIMULUS.exec(line)?.[0] ?? '';

function segmentOf(line: string): Frame {
  const [, , direction, flags = '', sequence, acknowledgment, bytes, window] = STIMULUS.exec(line) ?? [];
  return segment({
    fromClient: direction === '>',
    flags: [...flags].reduce((bits, letter) => bits | (FLAGS[letter] ?? 0), 0),
    sequence: Number(sequence),
    acknowledgment: Number(acknowledgment),
    bytes: Number(bytes),
    window: Number(window),
  });
}

function entryOf(conntrack: Conntrack): string {
  const [entry] = conntrack.list();
  if (entry === undefined) return '-';
  const { tcpState, expiresAt, assured, seenReply } = entry;
  return `${tcpState} ${inSeconds(expiresAt)}${assured ? ' ASSURED' : ''}${seenReply ? '' : ' UNREPLIED'}`;
}

const FLAGS: Readonly<Record<string, number>> = {
  S: TCP_SYN,
  A: TCP_ACK,
  F: TCP_FIN,
  R: TCP_RST,
  P: TCP_PSH,
  U: TCP_URG,
};

function settingsIn(title: string): Partial<ConntrackSettings> {
  return {
    ...(title.includes('tcp_be_liberal=1') && { tcpBeLiberal: true }),
    ...(title.includes('tcp_ignore_invalid_rst=1') && { tcpIgnoreInvalidReset: true }),
    ...(title.includes('tcp_loose=0') && { tcpLoose: false }),
  };
}

interface Segment {
  readonly flags: number;
  readonly sequence: number;
  readonly acknowledgment?: number;
  readonly bytes?: number;
  readonly window?: number;
  readonly scale?: number;
}

function segment({
  fromClient,
  flags,
  sequence,
  acknowledgment = 0,
  bytes = 0,
  window = 1_000,
  scale = -1,
}: Segment & { fromClient: boolean }): Frame {
  const frame = new Frame();
  frame.protocol = PROTOCOL_TCP;
  frame.srcIp = fromClient ? CLIENT : SERVER;
  frame.dstIp = fromClient ? SERVER : CLIENT;
  frame.srcPort = fromClient ? 40_000 : 80;
  frame.dstPort = fromClient ? 80 : 40_000;
  frame.tcpFlags = flags;
  frame.sequence = sequence | 0;
  frame.acknowledgment = acknowledgment | 0;
  frame.payloadBytes = bytes;
  frame.window = window;
  frame.windowScaleOption = scale;
  return frame;
}

function stateOf({ conntrackState }: Frame): string {
  return CONNTRACK_STATES.filter((state) => (conntrackState & CONNTRACK_STATE_BITS[state]) !== 0).join(',');
}

/** A connection after its handshake: client 1001, server 5001, windows of 1,000. */
function established({ clientScale, serverScale }: { clientScale: number; serverScale: number }) {
  const conntrack = new Conntrack({ instant: START, current: 0 });
  const pass = (frame: Frame): string => {
    conntrack.track(frame);
    const state = stateOf(frame);
    conntrack.confirm(frame);
    return state;
  };
  pass(segment({ fromClient: true, flags: TCP_SYN, sequence: 1000, scale: clientScale }));
  pass(
    segment({ fromClient: false, flags: TCP_SYN | TCP_ACK, sequence: 5000, acknowledgment: 1001, scale: serverScale }),
  );
  pass(segment({ fromClient: true, flags: TCP_ACK, sequence: 1001, acknowledgment: 5001 }));
  return { reply: (details: Segment) => pass(segment({ fromClient: false, ...details })) };
}
