import { describe, expect, test } from 'vitest';
import { inSeconds, minutes, ms, s } from '../../engine/time.ts';
import { TCP_SYN } from '../packet/frame.ts';
import { ICMP_DEST_UNREACHABLE } from '../packet/icmp.ts';
import { CARRIED, clientAndServer, losing, messagesOf, type WiredHost } from './scripted-wire.fixture.ts';
import type { TcpConnection, TcpHandlers } from './tcp-connection.ts';

/** Connects to port 80 and writes down what the application hears, with the time in seconds. */
function connect(client: WiredHost, server: WiredHost): { connection: TcpConnection; heard: string[] } {
  const heard: string[] = [];
  const at = (): number => inSeconds(client.cpus.instant);
  const connection = client.tcp.connect(
    { to: { ip: server.ip, port: 80 }, cpu: 0 },
    {
      onConnected: () => heard.push(`${at()} connected`),
      onClosed: (_, reason) => heard.push(`${at()} ${reason}`),
    },
  );
  return { connection, heard };
}

const ignore = (): TcpHandlers => ({});

describe('opening a connection', () => {
  test('three segments, and each side knows after its round trip', () => {
    const { wire, client, server } = clientAndServer();
    const accepted: number[] = [];
    server.tcp.listen({ port: 80, cpu: 0 }, () => {
      accepted.push(inSeconds(server.cpus.instant));
      return {};
    });
    const { connection, heard } = connect(client, server);
    wire.sim.run();
    expect(wire.trace).toEqual([
      '0 client > server [S] 0', //
      '1 server > client [S.] 0 ack 1',
      '2 client > server [.] 1 ack 1',
    ]);
    expect(heard).toEqual(['0.002 connected']);
    expect(accepted).toEqual([0.003]);
    expect(connection.state).toBe('ESTABLISHED');
    expect(connection.smoothedRtt).toBe(ms(2));
    expect(server.tcp.connections[0]!.remote).toEqual(connection.local);
    wire.frames.assertConserved();
  });

  test('a message written before the handshake is over goes out with its last segment', () => {
    const { wire, client, server } = clientAndServer();
    const got: number[] = [];
    server.tcp.listen({ port: 80, cpu: 0 }, () => ({ onMessage: (_, { id }) => got.push(id) }));
    const { connection } = connect(client, server);
    for (const message of messagesOf(100, 200)) connection.send(message);
    wire.sim.run();
    expect(wire.trace.slice(2)).toEqual([
      '2 client > server [P.] 1:301 ack 1', // both together: they waited in one buffer
      '3 server > client [.] 1 ack 301',
    ]);
    expect(got).toEqual([0, 1]);
  });

  test('the SYN offers MSS 1460, window scaling by 7, timestamps and a window of 44 segments', () => {
    const { wire, client, server } = clientAndServer();
    server.tcp.listen({ port: 80, cpu: 0 }, ignore);
    const seen: object[] = [];
    wire.fate = ({ mssOption, windowScaleOption, window, timestampEcho, sizeBytes }) => {
      seen.push({ mssOption, windowScaleOption, window, isEcho: timestampEcho !== 0, sizeBytes });
      return CARRIED;
    };
    connect(client, server);
    wire.sim.run();
    const bytes = 14 + 20 + 20; // Ethernet, IP, TCP
    expect(seen).toEqual([
      { mssOption: 1460, windowScaleOption: 7, window: 64_240, isEcho: false, sizeBytes: bytes + 20 },
      { mssOption: 1460, windowScaleOption: 7, window: 64_240, isEcho: true, sizeBytes: bytes + 20 },
      { mssOption: 0, windowScaleOption: -1, window: 502, isEcho: true, sizeBytes: bytes + 12 }, // 64,256 / 2^7
    ]);
  });
});

describe('lost handshakes', () => {
  test('a lost SYN costs one second', () => {
    const { wire, client, server } = clientAndServer();
    server.tcp.listen({ port: 80, cpu: 0 }, ignore);
    wire.fate = losing('client', 0);
    const { heard } = connect(client, server);
    wire.sim.run();
    expect(heard).toEqual(['1.002 connected']);
  });

  test('a SYN is repeated after 1, 2, 3, 4, 5, 7, 11, 19, 35 and 67 s, and given up at 131 s', () => {
    const { wire, client, server } = clientAndServer();
    wire.fate = () => 'lost';
    const { heard } = connect(client, server);
    wire.sim.run();
    const seconds = wire.trace.map((line) => Number.parseFloat(line) / 1e3);
    expect(seconds).toEqual([0, 1, 2, 3, 4, 5, 7, 11, 19, 35, 67]);
    expect(heard).toEqual(['131 timed out']);
    expect(client.tcp.connections).toEqual([]);
  });

  test('a lost SYN-ACK is repeated after 1, 3, 7, 15 and 31 s, and the half-open connection is gone after 63 s', () => {
    const { wire, client, server } = clientAndServer();
    server.tcp.listen({ port: 80, cpu: 0 }, ignore);
    wire.fate = (_, sender, index) => (sender === server || index > 0 ? 'lost' : CARRIED);
    connect(client, server);
    wire.runUntil(s(62));
    const answers = wire.trace.filter((line) => line.includes('[S.]'));
    expect(answers.map((line) => Math.round(Number.parseFloat(line) / 1e3))).toEqual([0, 1, 3, 7, 15, 31]);
    expect(server.tcp.connections).toHaveLength(1);
    wire.runUntil(s(64));
    expect(server.tcp.connections).toEqual([]);
  });

  test('when the last segment is lost, the data after it completes the handshake', () => {
    const { wire, client, server } = clientAndServer();
    const got: number[] = [];
    server.tcp.listen({ port: 80, cpu: 0 }, () => ({ onMessage: (_, { id }) => got.push(id) }));
    wire.fate = losing('client', 1);
    client.tcp.connect(
      { to: { ip: server.ip, port: 80 }, cpu: 0 },
      { onConnected: (connection) => void connection.send({ sizeBytes: 100, id: 0 }) },
    );
    wire.runUntil(ms(10));
    expect(got).toEqual([0]);
    expect(server.tcp.counters.retransmittedSegments).toBe(0);
  });

  test('after two lost SYNs the connection starts with one segment instead of ten', () => {
    const { wire, client, server } = clientAndServer();
    server.tcp.listen({ port: 80, cpu: 0 }, ignore);
    wire.fate = losing('client', 0, 1);
    const { connection } = connect(client, server);
    wire.sim.run();
    expect(connection.congestionWindowBytes).toBe(1_448);
  });
});

describe('refused and unreachable', () => {
  test('nobody listens: a reset, at once', () => {
    const { wire, client, server } = clientAndServer();
    const { heard } = connect(client, server);
    wire.sim.run();
    expect(wire.trace).toEqual(['0 client > server [S] 0', '1 server > client [R.] 0 ack 1']);
    expect(heard).toEqual(['0.002 refused']);
    expect(wire.frames.drops()).toEqual(new Map([['NO_SOCKET', 1], ['TCP_RESET', 1]])); // biome-ignore format: short
    wire.frames.assertConserved();
  });

  test.each([
    { name: 'port', code: 3, reason: 'refused' },
    { name: 'network', code: 0, reason: 'network unreachable' },
    { name: 'host', code: 1, reason: 'host unreachable' },
    { name: 'administratively', code: 13, reason: 'host unreachable' },
  ])('ICMP $name unreachable during the handshake: $reason', ({ code, reason }) => {
    const { wire, client, server } = clientAndServer();
    wire.fate = (frame) => {
      if ((frame.tcpFlags & TCP_SYN) !== 0) server.sendIcmpError(frame, ICMP_DEST_UNREACHABLE, code);
      return CARRIED;
    };
    server.tcp.listen({ port: 80, cpu: 0 }, ignore);
    const { heard } = connect(client, server);
    wire.runUntil(ms(1));
    expect(heard).toEqual([`0.001 ${reason}`]);
  });

  test('without a route nothing is sent', () => {
    const { wire, client, server } = clientAndServer();
    client.sendError = 'ENETUNREACH';
    const { connection, heard } = connect(client, server);
    expect(heard).toEqual([]); // the application hears of it later, like of anything
    wire.sim.run();
    expect(heard).toEqual(['0 network unreachable']);
    expect(wire.trace).toEqual([]);
    expect(connection.send({ sizeBytes: 1, id: 1 })).toBe(false);
  });

  test('a packet filter that drops the SYN on the way out does not fail the call', () => {
    const { wire, client, server } = clientAndServer();
    server.tcp.listen({ port: 80, cpu: 0 }, ignore);
    client.sendError = 'EPERM';
    const { heard } = connect(client, server);
    wire.runUntil(ms(900));
    client.sendError = undefined;
    wire.sim.run();
    expect(heard).toEqual(['1.002 connected']);
  });

  test('an ICMP error of an established connection may pass, but is the reason if it times out', () => {
    const { wire, client, server } = clientAndServer();
    server.tcp.listen({ port: 80, cpu: 0 }, ignore);
    const { connection, heard } = connect(client, server);
    wire.sim.run();
    wire.fate = (frame) => {
      if (frame.payloadBytes > 0) server.sendIcmpError(frame, ICMP_DEST_UNREACHABLE, 1);
      return frame.payloadBytes > 0 ? 'lost' : CARRIED;
    };
    for (const message of messagesOf(100)) connection.send(message);
    wire.runUntil(minutes(10));
    expect(connection.state).toBe('ESTABLISHED');
    wire.sim.run();
    expect(heard[1]).toMatch(/ host unreachable$/);
  });
});

describe('listener', () => {
  test('a full accept queue drops SYNs; the client gets in when the application has accepted', () => {
    const { wire, client, server } = clientAndServer();
    let accepted = 0;
    const listener = server.tcp.listen({ port: 80, cpu: 0, backlog: 1 }, () => {
      accepted++;
      return {};
    });
    listener.pauseAccepting();
    const first = [connect(client, server), connect(client, server)]; // a backlog of n admits n + 1
    wire.runUntil(ms(10));
    const third = connect(client, server);
    wire.runUntil(ms(500));
    expect(first.map(({ connection }) => connection.state)).toEqual(['ESTABLISHED', 'ESTABLISHED']);
    expect(third.heard).toEqual([]);
    expect(server.tcp.counters.listenDrops).toBeGreaterThan(0);
    listener.resumeAccepting();
    wire.runUntil(s(2));
    expect(third.heard).toEqual(['1.012 connected']);
    expect(accepted).toBe(3);
    expect(wire.frames.drops().get('LISTEN_OVERFLOW')).toBe(server.tcp.counters.listenDrops);
  });

  test('data that comes before accept() waits in the receive buffer', () => {
    const { wire, client, server } = clientAndServer();
    const got: number[] = [];
    const listener = server.tcp.listen({ port: 80, cpu: 0 }, () => ({ onMessage: (_, { id }) => got.push(id) }));
    listener.pauseAccepting();
    const { connection } = connect(client, server);
    for (const message of messagesOf(10, 20)) connection.send(message);
    wire.sim.run();
    expect(got).toEqual([]);
    listener.resumeAccepting();
    wire.sim.run();
    expect(got).toEqual([0, 1]);
  });

  test('closing it resets connections that were not accepted, and keeps those that were', () => {
    const { wire, client, server } = clientAndServer();
    const listener = server.tcp.listen({ port: 80, cpu: 0 }, ignore);
    const accepted = connect(client, server);
    wire.sim.run();
    listener.pauseAccepting();
    const waiting = connect(client, server);
    wire.sim.run();
    listener.close();
    const late = connect(client, server);
    wire.sim.run();
    expect(accepted.connection.state).toBe('ESTABLISHED');
    expect(waiting.heard[1]).toMatch(/reset$/);
    expect(late.heard[0]).toMatch(/refused$/);
    wire.frames.assertConserved();
  });

  test('a port is taken once, and only on local addresses', () => {
    const { client, server } = clientAndServer();
    server.tcp.listen({ port: 80, cpu: 0 }, ignore);
    expect(() => server.tcp.listen({ port: 80, cpu: 0 }, ignore)).toThrow(
      'listen on 0.0.0.0:80 in server: address already in use',
    );
    expect(() => server.tcp.listen({ ip: client.ip, port: 81, cpu: 0 }, ignore)).toThrow('not a local address');
    expect(() => server.tcp.listen({ port: 70_000, cpu: 0 }, ignore)).toThrow('expected a port up to 65535');
  });

  test('a connection to oneself works: its segments do not nest in one call', () => {
    const { wire, server } = clientAndServer();
    const got: number[] = [];
    server.tcp.listen({ port: 80, cpu: 0 }, () => ({ onMessage: (_, { id }) => got.push(id) }));
    const { connection } = connect(server, server);
    for (const message of messagesOf(500_000, 500_000)) connection.send(message);
    wire.sim.run();
    expect(got).toEqual([0, 1]);
    wire.frames.assertConserved();
  });
});
