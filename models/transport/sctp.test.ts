import { describe, expect, test } from 'vitest';
import { inMs, s } from '../../engine/time.ts';
import { type Frame, IPV4_HEADER_BYTES } from '../packet/frame.ts';
import { CARRIED, clientAndServer, type Fate, type WiredHost } from './scripted-wire.fixture.ts';
import type { SctpCloseReason, SctpHandlers } from './sctp-association.ts';
import { SctpLayer } from './sctp-layer.ts';
import { isSctpPacket } from './sctp-packet.ts';

const PORT = 8082;
const ECHO: SctpHandlers = { onMessage: (association, message) => association.send(message) };

/** Chunks and length of the IP packet. */
function describePacket(frame: Frame): string {
  const { message, dstPort } = frame;
  const types = isSctpPacket(message) ? message.chunks.map(({ type }) => type).join('+') : 'no SCTP';
  return `${dstPort === PORT ? '>' : '<'} ${types} ${frame.ipBytes()}`;
}

function lab({ listens = true, fate = () => CARRIED }: { listens?: boolean; fate?: (text: string) => Fate } = {}) {
  const { wire, client, server } = clientAndServer();
  const layerOf = (host: WiredHost) => new SctpLayer(host, host.cpus.place.random('sctp'));
  const [clients, servers] = [layerOf(client), layerOf(server)];
  const packets: string[] = [];
  const heard: string[] = [];
  wire.fate = (frame) => {
    const text = describePacket(frame);
    packets.push(text);
    return fate(text);
  };
  if (listens) servers.listen({ port: PORT, cpu: 0 }, ECHO);
  const association = clients.connect(
    { to: { ip: server.ip, port: PORT }, cpu: 0 },
    {
      onConnected: () => heard.push(`${inMs(client.cpus.instant)} connected`),
      onMessage: (_association, { id, sizeBytes }) =>
        heard.push(`${inMs(client.cpus.instant)} message ${id} of ${sizeBytes}`),
      onClosed: (_association, reason: SctpCloseReason) => heard.push(`${inMs(client.cpus.instant)} ${reason}`),
    },
  );
  const run = (): void => {
    wire.sim.run();
    wire.frames.assertConserved();
  };
  return { wire, association, clients, servers, packets, heard, run };
}

/** The first packet with this text is lost. */
const losing = (wanted: string) => {
  let isLost = false;
  return (text: string): Fate => {
    if (isLost || !text.includes(wanted)) return CARRIED;
    isLost = true;
    return 'lost';
  };
};

const HEADERS = IPV4_HEADER_BYTES + 12;
const HANDSHAKE = [
  `> INIT ${HEADERS + 20}`,
  `< INIT ACK ${HEADERS + 20 + 4 + 256}`,
  `> COOKIE ECHO ${HEADERS + 4 + 256}`,
  `< COOKIE ACK ${HEADERS + 4}`,
];
const SHUTDOWN = [`> SHUTDOWN ${HEADERS + 8}`, `< SHUTDOWN ACK ${HEADERS + 4}`, `> SHUTDOWN COMPLETE ${HEADERS + 4}`];

describe('an association', () => {
  test('begins with four packets, carries messages, and ends with three', () => {
    const { association, packets, heard, run, clients, servers } = lab();
    association.send({ id: 7, sizeBytes: 5 });
    run();
    association.close();
    run();
    const data = HEADERS + 16 + 8; // 5 bytes are padded to 8
    expect(packets).toEqual([
      ...HANDSHAKE,
      ...[`> DATA ${data}`, `< SACK ${HEADERS + 16}`, `< DATA ${data}`, `> SACK ${HEADERS + 16}`],
      ...SHUTDOWN,
    ]);
    // The last SACK has arrived after 7 ms; the shutdown takes a round trip.
    expect(heard).toEqual(['4 connected', '6 message 7 of 5', '9 closed']);
    expect([clients.associations, servers.associations]).toEqual([[], []]);
  });

  test('cuts a message that is too large for the path, and gives it to the application once', () => {
    const { association, packets, heard, run } = lab();
    association.send({ id: 1, sizeBytes: 3_000 });
    run();
    // 1500 bytes leave 1452 for data in one chunk: two full ones, and 96 bytes.
    const sent = packets.filter((text) => text.startsWith('> DATA'));
    expect(sent).toEqual(['> DATA 1500', '> DATA 1500', `> DATA ${HEADERS + 16 + 96}`]);
    expect(heard.at(-1)).toBe('6 message 1 of 3000');
  });

  test('keeps nothing at the server before the cookie has come back', () => {
    const { servers, run, packets } = lab({ fate: (text) => (text.includes('COOKIE ECHO') ? 'lost' : CARRIED) });
    run();
    expect(packets).toContain(HANDSHAKE[1]);
    expect(servers.associations).toEqual([]);
  });

  test.each(['INIT', 'INIT ACK', 'COOKIE ECHO', 'COOKIE ACK', '> DATA', '< SACK', '< DATA', '> SACK'])(
    'survives the loss of a packet: %s',
    (lost) => {
      const { association, heard, run } = lab({ fate: losing(lost) });
      for (const id of [1, 2, 3]) association.send({ id, sizeBytes: 100 });
      run();
      expect(heard.map((text) => text.replace(/^\S+ /, ''))).toEqual([
        'connected',
        ...[1, 2, 3].map((id) => `message ${id} of 100`),
      ]);
    },
  );

  test.each(['SHUTDOWN ', 'SHUTDOWN ACK', 'SHUTDOWN COMPLETE'])('is closed on both sides if %s is lost', (lost) => {
    const { association, clients, servers, heard, run } = lab({ fate: losing(lost) });
    run();
    association.close();
    run();
    expect(heard.at(-1)).toMatch(/ closed$/);
    expect([clients.associations, servers.associations]).toEqual([[], []]);
  });

  test('is refused where nobody listens', () => {
    const { packets, heard, run } = lab({ listens: false });
    run();
    expect(packets).toEqual([`> INIT ${HEADERS + 20}`, `< ABORT ${HEADERS + 4}`]);
    expect(heard).toEqual(['2 refused']);
  });

  test('is given up after nine INITs without an answer: 3, 6, 12, 24, 48 and then 60 s apart', () => {
    const { packets, heard, run } = lab({ fate: () => 'lost' });
    run();
    expect(packets).toHaveLength(9);
    expect(heard).toEqual([`${inMs(s(3 + 6 + 12 + 24 + 48 + 4 * 60))} timed out`]);
  });

  test('that the peer does not know any more is reset', () => {
    const { association, servers, heard, run } = lab();
    run();
    for (const known of servers.associations) servers.remove(known); // as when its machine has been replaced
    association.send({ id: 1, sizeBytes: 10 });
    run();
    // The cookie's answer has arrived after 4 ms.
    expect(heard).toEqual(['4 connected', '6 reset']);
  });
});
