import { describe, expect, test } from 'vitest';
import { inMs, inSeconds, ms, s, us } from '../../engine/time.ts';
import { TCP_ACK, TCP_SYN } from '../packet/frame.ts';
import { ICMP_DEST_UNREACHABLE, ICMP_FRAGMENTATION_NEEDED } from '../packet/icmp.ts';
import { CARRIED, clientAndServer, establishedConnection, losing, messagesOf } from './scripted-wire.fixture.ts';
import type { TcpConnection } from './tcp-connection.ts';

describe('messages', () => {
  test('a message is cut into full segments and arrives with its last byte', () => {
    const { wire, near, heard } = establishedConnection();
    for (const message of messagesOf(3_000, 10)) near.send(message);
    wire.sim.run();
    expect(wire.trace).toEqual([
      '3 client > server [.] 1:1449 ack 1', // 1500 - 20 IP - 20 TCP - 12 timestamps = 1448
      '3 client > server [.] 1449:2897 ack 1',
      '3 client > server [P.] 2897:3001 ack 1',
      '3 client > server [P.] 3001:3011 ack 1',
      '4 server > client [.] 1 ack 1449', // the first 16 acknowledgments are quick
      '4 server > client [.] 1 ack 2897',
      '4 server > client [.] 1 ack 3001',
      '4 server > client [.] 1 ack 3011',
    ]);
    expect(heard).toEqual(['4 server: message 0', '4 server: message 1']);
    wire.frames.assertConserved();
  });

  test('an empty message is a wrong call', () => {
    const { near } = establishedConnection();
    expect(() => near.send({ sizeBytes: 0, id: 1 })).toThrow('message of 0 bytes; expected at least 1');
  });

  test('with Nagle a small segment waits until the one before is acknowledged', () => {
    const { wire, near } = establishedConnection({ settings: { noDelay: false } });
    for (const message of messagesOf(10, 10, 10)) near.send(message);
    wire.sim.run();
    expect(wire.trace).toEqual([
      '3 client > server [P.] 1:11 ack 1',
      '4 server > client [.] 1 ack 11',
      '5 client > server [P.] 11:31 ack 1',
      '6 server > client [.] 1 ack 31',
    ]);
  });

  test('sending starts with ten segments and doubles per round trip', () => {
    const { wire, near } = establishedConnection();
    near.send({ sizeBytes: 70 * 1448, id: 0 });
    wire.sim.run();
    const sent = new Map<string, number>();
    for (const line of wire.trace.filter((text) => text.includes('client >'))) {
      const at = line.split(' ')[0]!;
      sent.set(at, (sent.get(at) ?? 0) + 1);
    }
    expect([...sent]).toEqual([['3', 10], ['5', 20], ['7', 40]]); // biome-ignore format: a table
  });
});

describe('acknowledgments', () => {
  /** Client and server send 100 bytes each way until both have turned interactive; a request is under way. */
  function conversation() {
    const pair = establishedConnection();
    pair.near.send({ sizeBytes: 100, id: 0 });
    pair.wire.runUntil(ms(5));
    pair.far.send({ sizeBytes: 100, id: 1 });
    pair.wire.runUntil(ms(7));
    pair.near.send({ sizeBytes: 100, id: 2 });
    pair.wire.trace.length = 0;
    return pair;
  }

  test('an answer carries the acknowledgment of its request', () => {
    const { wire, far } = conversation(); // the request is on the wire since 7 ms
    wire.runUntil(ms(9));
    far.send({ sizeBytes: 100, id: 3 });
    wire.runUntil(ms(11));
    expect(wire.trace).toEqual(['9 server > client [P.] 101:201 ack 201']);
  });

  test('without an answer it follows after 40 ms', () => {
    const { wire } = conversation(); // the request arrives at 8 ms
    wire.sim.run();
    expect(wire.trace).toEqual(['48 server > client [.] 101 ack 201']);
  });

  test('which answers carry them and which do not, as recorded on Linux 6.18', () => {
    // Six requests of 100 bytes, answered at once with 200; the client thinks this long after each answer.
    const thinkTimes = [ms(100), ms(5), ms(100), ms(5), ms(5)];
    const { wire, client, server } = clientAndServer({ delay: us(10) });
    server.tcp.listen({ port: 80, cpu: 0 }, () => ({
      onMessage: (connection, { id }) => void connection.send({ id, sizeBytes: 200 }),
    }));
    const ask = (connection: TcpConnection): void => void connection.send({ id: 0, sizeBytes: 100 });
    client.tcp.connect(
      { to: { ip: server.ip, port: 80 }, cpu: 0 },
      {
        onConnected: ask,
        onMessage: (connection) => {
          const thinkTime = thinkTimes.shift();
          if (thinkTime !== undefined) client.cpus.place.schedule(thinkTime, ask, connection);
        },
      },
    );
    wire.sim.run();
    const bare = wire.trace.slice(3).filter((line) => line.includes('[.]'));
    expect(bare.map((line) => line.split(' ').slice(1).join(' '))).toEqual([
      'server > client [.] 1 ack 101', //     the first request, quickly
      'client > server [.] 101 ack 201', //   the first answer, quickly
      'client > server [.] 201 ack 401', //   the second too: its request came more than 40 ms after an answer
      'client > server [.] 301 ack 601', //   the third after 40 ms, for its request came soon after an answer
      'client > server [.] 401 ack 801', //   the fourth quickly: the timer has ended that
      'client > server [.] 601 ack 1201', //  the sixth after 40 ms; the fifth with the sixth request
    ]);
  });

  test('every second full segment is acknowledged at once', () => {
    const { wire, near } = conversation();
    for (const message of messagesOf(1_448, 1_448, 1_448, 1_448)) near.send(message);
    wire.runUntil(ms(20));
    expect(wire.trace.filter((line) => line.includes('server >'))).toEqual([
      '8 server > client [.] 101 ack 1649', // with the request that was still unacknowledged
      '8 server > client [.] 101 ack 4545',
    ]);
  });

  test('a lost acknowledgment does no harm: the next one says the same and more', () => {
    const { wire, near, heard } = establishedConnection();
    wire.fate = losing('server', 0);
    for (const message of messagesOf(100, 100)) near.send(message);
    wire.sim.run();
    expect(near.retransmissions).toBe(0);
    expect(heard).toHaveLength(2);
  });
});

describe('loss', () => {
  test('three duplicate acknowledgments: the lost segment is sent again after one round trip', () => {
    const { wire, near, heard } = establishedConnection();
    wire.fate = losing('client', 1);
    near.send({ sizeBytes: 5 * 1_448, id: 0 });
    wire.sim.run();
    expect(wire.trace).toEqual([
      '3 client > server [.] 1:1449 ack 1',
      '3 client > server [.] 1449:2897 ack 1 lost',
      '3 client > server [.] 2897:4345 ack 1',
      '3 client > server [.] 4345:5793 ack 1',
      '3 client > server [P.] 5793:7241 ack 1',
      '4 server > client [.] 1 ack 1449',
      '4 server > client [.] 1 ack 1449',
      '4 server > client [.] 1 ack 1449',
      '4 server > client [.] 1 ack 1449',
      '5 client > server [.] 1449:2897 ack 1',
      '6 server > client [.] 1 ack 7241',
    ]);
    expect(heard).toEqual(['6 server: message 0']);
    expect(near.retransmissions).toBe(1);
    expect(near.congestionWindowBytes).toBeCloseTo(2 * 1_448); // nothing in flight at the end of recovery
    wire.frames.assertConserved();
  });

  test('two losses in one window take a round trip each', () => {
    const { wire, near, heard } = establishedConnection();
    wire.fate = losing('client', 1, 3);
    near.send({ sizeBytes: 8 * 1_448, id: 0 });
    wire.sim.run();
    expect(wire.trace.filter((line) => / (1449|4345):/.test(line))).toEqual([
      '3 client > server [.] 1449:2897 ack 1 lost',
      '3 client > server [.] 4345:5793 ack 1 lost',
      '5 client > server [.] 1449:2897 ack 1',
      '7 client > server [.] 4345:5793 ack 1',
    ]);
    expect(heard).toEqual(['8 server: message 0']);
  });

  test('a lost tail waits for the timer: 200 ms and a round trip', () => {
    const { wire, near, heard } = establishedConnection();
    wire.fate = losing('client', 4);
    near.send({ sizeBytes: 5 * 1_448, id: 0 });
    wire.sim.run();
    // Two round trips of 2 ms were measured, the timer was restarted by the acknowledgments at 5 ms: 5 + 2 + 200.
    expect(wire.trace.filter((line) => line.includes(' 5793:'))).toEqual([
      '3 client > server [P.] 5793:7241 ack 1 lost',
      '207 client > server [P.] 5793:7241 ack 1',
    ]);
    expect(heard).toEqual(['208 server: message 0']);
    expect(near.congestionWindowBytes).toBeLessThanOrEqual(2 * 1_448);
  });

  test('duplicates for new segments keep a small window going (limited transmit)', () => {
    const { wire, near, heard } = establishedConnection({ settings: { initialWindowSegments: 3 } });
    near.send({ sizeBytes: 10, id: 0 });
    wire.runUntil(ms(10));
    wire.fate = losing('client', 1);
    near.send({ sizeBytes: 6 * 1_448, id: 1 });
    wire.sim.run();
    expect(wire.trace.filter((line) => line.includes('client >')).slice(1)).toEqual([
      '10 client > server [.] 11:1459 ack 1 lost',
      '10 client > server [.] 1459:2907 ack 1', // causes the first duplicate, and that
      '10 client > server [.] 2907:4355 ack 1',
      '12 client > server [.] 4355:5803 ack 1', // this one, whose duplicate is the third
      '12 client > server [.] 5803:7251 ack 1',
      '14 client > server [.] 11:1459 ack 1',
      '14 client > server [P.] 7251:8699 ack 1',
    ]);
    expect(heard[1]).toBe('15 server: message 1');
  });

  test('a packet that comes up to two places late is not taken for lost', () => {
    const { wire, near, heard } = establishedConnection();
    wire.fate = (_, sender, index) => (sender.name === 'client' && index === 1 ? [ms(0.1)] : CARRIED);
    near.send({ sizeBytes: 4 * 1_448, id: 0 });
    wire.sim.run();
    expect(heard).toEqual(['4.1 server: message 0']);
    expect(near.retransmissions).toBe(0);
  });

  test('what arrives twice is delivered once', () => {
    const { wire, near, heard } = establishedConnection();
    wire.fate = (_, sender) => (sender.name === 'client' ? [ms(0), ms(0.5)] : CARRIED);
    for (const message of messagesOf(100, 2_000)) near.send(message);
    wire.sim.run();
    expect(heard).toEqual(['4 server: message 0', '4 server: message 1']);
    expect(wire.frames.drops().get('TCP_OLD_DATA')).toBe(3);
    wire.frames.assertConserved();
  });

  test('timeouts double; a silent peer is given up after about a quarter of an hour', () => {
    const { wire, near, heard } = establishedConnection();
    wire.fate = () => 'lost';
    near.send({ sizeBytes: 100, id: 0 });
    wire.sim.run();
    const seconds = wire.trace.map((line) => Math.round(Number.parseFloat(line) / 100) / 10);
    expect(seconds.slice(0, 6)).toEqual([0, 0.2, 0.6, 1.4, 3, 6.3]);
    expect(seconds).toHaveLength(16); // 15 retransmissions
    const end = inSeconds(wire.sim.now);
    expect(end).toBeGreaterThan(924.6);
    expect(end).toBeLessThan(935);
    expect(heard).toEqual([`${end * 1e3} client: timed out`]);
  });

  test('a retransmission ends the backoff when its timestamp comes back', () => {
    const { wire, near } = establishedConnection();
    wire.fate = losing('client', 0, 1, 2);
    near.send({ sizeBytes: 100, id: 0 });
    wire.sim.run(); // 3 + 202 + 404 + 808
    expect(wire.trace.at(-1)).toBe('1418 server > client [.] 1 ack 101');
    wire.fate = losing('client', 4);
    near.send({ sizeBytes: 100, id: 1 });
    const start = inMs(wire.sim.now);
    wire.sim.run();
    expect(Number.parseFloat(wire.trace.at(-2)!) - start).toBeLessThan(205);
  });

  test('a path with a smaller MTU: segments shrink as soon as the router says so', () => {
    const { wire, client, server, near, heard } = establishedConnection();
    wire.fate = (frame, sender) => {
      if (sender === server || frame.ipBytes() <= 1_450) return CARRIED;
      server.sendIcmpError(frame, ICMP_DEST_UNREACHABLE, ICMP_FRAGMENTATION_NEEDED, 1_450);
      return 'lost';
    };
    near.send({ sizeBytes: 2_000, id: 0 });
    wire.runUntil(ms(100));
    expect(wire.trace.filter((line) => line.includes('client >'))).toEqual([
      '3 client > server [.] 1:1449 ack 1 lost',
      '3 client > server [P.] 1449:2001 ack 1',
      '4 client > server [.] 1:1399 ack 1', // 1450 - 52
      '4 client > server [P.] 1399:2001 ack 1',
    ]);
    expect(heard).toEqual(['5 server: message 0']);

    // The next connection to the same address knows.
    wire.trace.length = 0;
    const next = client.tcp.connect({ to: { ip: server.ip, port: 80 }, cpu: 0 }, {});
    next.send({ sizeBytes: 1_400, id: 1 });
    wire.runUntil(ms(200));
    expect(wire.trace.filter((line) => line.includes('1:1399'))).toHaveLength(1);
  });
});

describe('flow control', () => {
  test('an application that does not read closes the window; reading opens it', () => {
    const { wire, near, far, heard } = establishedConnection();
    far.pauseReading();
    near.send({ sizeBytes: 100_000, id: 0 });
    wire.runUntil(ms(150));
    const sent = wire.trace.filter((line) => line.includes('client >')).at(-1);
    expect(sent).toContain(':65'); // about half of the receive buffer of 131,072
    expect(heard).toEqual([]);
    far.resumeReading();
    wire.runUntil(ms(190));
    expect(heard).toEqual(['152 server: message 0']);
    wire.frames.assertConserved();
  });

  test('a closed window is probed with growing intervals, for as long as the peer answers', () => {
    const { wire, near, far, heard } = establishedConnection({
      settings: { receiveBufferBytes: 20_000, receiveBufferMaxBytes: 20_000 },
    });
    far.pauseReading();
    near.send({ sizeBytes: 10_000, id: 0 }); // the window is 8,760: six times the MSS of 1460
    near.send({ sizeBytes: 10, id: 1 });
    wire.runUntil(s(2_000));
    expect(near.state).toBe('ESTABLISHED');
    const late = wire.trace.filter((line) => line.includes('client >')).slice(6);
    expect(late.slice(0, 2)).toEqual([
      '207 client > server [.] 8689:8761 ack 1', // what was left of the window, not worth a segment before
      '411 client > server [.] 8760 ack 1', //      from before the window: forces an answer
    ]);
    const seconds = late.map((line) => Math.round(Number.parseFloat(line) / 100) / 10);
    expect(seconds.slice(1, 6)).toEqual([0.4, 0.8, 1.6, 3.2, 6.5]);
    far.resumeReading();
    wire.runUntil(s(2_001));
    expect(heard.map((line) => line.slice(line.indexOf(' ')))).toEqual([' server: message 0', ' server: message 1']);
  });

  test('a lost window update costs a probe, not the connection', () => {
    const { wire, server, near, far, heard } = establishedConnection({
      settings: { receiveBufferBytes: 20_000, receiveBufferMaxBytes: 20_000 },
    });
    far.pauseReading();
    near.send({ sizeBytes: 8_760, id: 0 });
    near.send({ sizeBytes: 10, id: 1 });
    wire.runUntil(ms(100));
    const update = server.sentPackets;
    wire.fate = losing('server', update);
    far.resumeReading();
    wire.sim.run();
    expect(wire.trace.filter((line) => line.endsWith('lost'))).toHaveLength(1);
    expect(heard).toEqual(['100 server: message 0', '210 server: message 1']);
  });

  test('the window grows with what the application reads per round trip', () => {
    const { wire, near } = establishedConnection();
    let largest = 0;
    wire.fate = ({ window, tcpFlags }, { name }) => {
      if (name === 'server' && (tcpFlags & (TCP_SYN | TCP_ACK)) === TCP_ACK) largest = Math.max(largest, window << 7);
      return CARRIED;
    };
    near.send({ sizeBytes: 5_000_000, id: 0 });
    wire.sim.run();
    expect(largest).toBeGreaterThan(1_000_000);
    expect(largest).toBeLessThanOrEqual(3_145_728); // half of tcp_rmem[2]
  });
});

describe('cost', () => {
  test('a request costs a system call, its segment, and on the other side delivery', () => {
    const costs = clientAndServer().client.cpus.costs;
    const { wire, client, server, near } = establishedConnection({
      costs: { ...costs, socketSendNs: 700, tcpSegmentNs: 400, localDeliveryNs: 500, socketReceiveNs: 300 },
    });
    wire.runUntil(ms(10));
    const before = { client: client.cpus.busyTime(0), server: server.cpus.busyTime(0) };
    near.send({ sizeBytes: 100, id: 0 });
    wire.sim.run();
    expect(client.cpus.busyTime(0) - before.client).toBe(700 + 400 + 400); // and the acknowledgment
    expect(server.cpus.busyTime(0) - before.server).toBe(400 + 500 + 300 + 400);
  });
});
