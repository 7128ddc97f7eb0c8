import { describe, expect, test } from 'vitest';
import { minutes, ms, s } from '../../engine/time.ts';
import { fillReset } from '../ip/reject.ts';
import { CARRIED, clientAndServer, establishedConnection, losing, type WiredHost } from './scripted-wire.fixture.ts';
import type { TcpHandlers } from './tcp-connection.ts';

describe('closing', () => {
  test('first one side, then the other: three segments, and the first closer keeps TIME_WAIT for a minute', () => {
    const { wire, client, near, far, heard } = establishedConnection();
    near.close();
    wire.runUntil(ms(10));
    expect(far.state).toBe('CLOSE_WAIT');
    expect(near.state).toBe('FIN_WAIT1'); // the acknowledgment waits for an answer, up to 40 ms
    far.close();
    wire.runUntil(ms(20));
    expect(wire.trace).toEqual([
      '3 client > server [F.] 1 ack 1',
      '10 server > client [F.] 1 ack 2',
      '11 client > server [.] 2 ack 2',
    ]);
    expect(heard).toEqual(['4 server: peer closed', '11 client: closed', '12 server: closed']);
    expect([near.state, far.state]).toEqual(['TIME_WAIT', 'CLOSED']);
    wire.runUntil(s(59));
    expect(client.tcp.timeWaitCount).toBe(1);
    wire.runUntil(s(61));
    expect(client.tcp.timeWaitCount).toBe(0);
    wire.frames.assertConserved();
  });

  test('the FIN follows what was written before', () => {
    const { wire, near, heard } = establishedConnection();
    near.send({ sizeBytes: 20_000, id: 0 });
    near.close();
    expect(near.send({ sizeBytes: 1, id: 1 })).toBe(false);
    wire.runUntil(ms(10));
    expect(heard).toEqual(['6 server: message 0', '6 server: peer closed']);
    expect(wire.trace.filter((line) => line.includes('F'))).toEqual(['5 client > server [FP.] 18825:20001 ack 1']);
  });

  test('both at once: CLOSING, and TIME_WAIT on both sides', () => {
    const { wire, client, server, near, far, heard } = establishedConnection();
    near.close();
    far.close();
    wire.runUntil(ms(4));
    expect([near.state, far.state]).toEqual(['CLOSING', 'CLOSING']);
    wire.runUntil(ms(10));
    expect(heard).toEqual(['5 client: closed', '5 server: closed']);
    expect([client.tcp.timeWaitCount, server.tcp.timeWaitCount]).toEqual([1, 1]);
    wire.frames.assertConserved();
  });

  test('after shutdown of its sending half a side still receives', () => {
    const { wire, near, far, heard } = establishedConnection();
    near.shutdownSend();
    wire.runUntil(ms(100));
    expect(near.state).toBe('FIN_WAIT2');
    far.send({ sizeBytes: 5_000, id: 7 });
    far.close();
    wire.runUntil(ms(200));
    expect(heard.map((line) => line.slice(line.indexOf(' ') + 1))).toEqual([
      'server: peer closed',
      'client: message 7',
      'client: peer closed',
      'client: closed',
      'server: closed',
    ]);
  });

  test('data for a closed socket is answered with RST: the sender hears "reset"', () => {
    const { wire, near, far, heard } = establishedConnection();
    near.close();
    wire.runUntil(ms(100));
    far.send({ sizeBytes: 100, id: 0 });
    wire.runUntil(ms(200));
    expect(wire.trace.slice(-2)).toEqual(['100 server > client [P.] 1:101 ack 2', '101 client > server [R] 2']);
    expect(heard).toEqual(['4 server: peer closed', '101 client: closed', '102 server: reset']);
    wire.frames.assertConserved();
  });

  test('closing without reading everything resets', () => {
    const { wire, near, far, heard } = establishedConnection();
    far.pauseReading();
    near.send({ sizeBytes: 100, id: 0 });
    wire.runUntil(ms(10));
    far.close();
    wire.runUntil(ms(20));
    expect(wire.trace.at(-1)).toBe('10 server > client [R.] 1 ack 101');
    expect(heard).toEqual(['10 server: closed', '11 client: reset']);
  });

  test('a peer that never closes is forgotten a minute after the FIN was acknowledged', () => {
    const { wire, client, near, heard } = establishedConnection();
    near.close();
    wire.runUntil(s(59));
    expect(near.state).toBe('FIN_WAIT2');
    wire.runUntil(s(61));
    expect(near.state).toBe('CLOSED');
    expect(client.tcp.connections).toEqual([]);
    expect(heard).toEqual(['4 server: peer closed', '60045 client: closed']); // acknowledged after 40 ms, at 45 ms
  });

  test('a closed socket retries for 102 s only', () => {
    const { wire, near, heard } = establishedConnection();
    wire.fate = () => 'lost';
    near.send({ sizeBytes: 100, id: 0 });
    near.close();
    wire.runUntil(minutes(5));
    expect(near.state).toBe('CLOSED');
    const [time, ...words] = heard[0]!.split(' ');
    expect(words.join(' ')).toBe('client: timed out');
    expect(Number(time) / 1e3).toBeGreaterThan(102.2);
    expect(Number(time) / 1e3).toBeLessThan(105);
  });

  test('a lost FIN is repeated', () => {
    const { wire, near, far, heard } = establishedConnection();
    wire.fate = losing('client', 0);
    near.close();
    wire.runUntil(s(1));
    expect(wire.trace.filter((line) => line.includes('[F.]'))).toEqual([
      '3 client > server [F.] 1 ack 1 lost',
      '205 client > server [F.] 1 ack 1', // 3 + 202
    ]);
    expect(far.state).toBe('CLOSE_WAIT');
    expect(heard).toEqual(['206 server: peer closed']);
  });

  test('when the last acknowledgment is lost, TIME_WAIT answers the repeated FIN and starts over', () => {
    const { wire, client, near, far } = establishedConnection();
    near.close();
    wire.runUntil(ms(10));
    wire.fate = losing('client', client.sentPackets);
    far.close();
    wire.runUntil(ms(300));
    expect(wire.trace.slice(-3)).toEqual([
      '11 client > server [.] 2 ack 2 lost',
      '212 server > client [F.] 1 ack 2',
      '213 client > server [.] 2 ack 2',
    ]);
    expect(far.state).toBe('CLOSED');
    wire.runUntil(s(60.1));
    expect(client.tcp.timeWaitCount).toBe(1);
    wire.runUntil(s(60.3));
    expect(client.tcp.timeWaitCount).toBe(0);
  });

  test('an application that reads late still gets everything before it hears that it is over', () => {
    const { wire, near, far, heard } = establishedConnection();
    near.pauseReading();
    near.shutdownSend();
    wire.runUntil(ms(50));
    far.send({ sizeBytes: 100, id: 3 });
    far.close();
    wire.runUntil(ms(100));
    expect(near.state).toBe('TIME_WAIT');
    near.resumeReading();
    wire.runUntil(ms(200));
    expect(heard.filter((line) => line.includes('client')).map((line) => line.slice(line.indexOf(':')))).toEqual([
      ': message 3',
      ': peer closed',
      ': closed',
    ]);
  });
});

describe('aborting', () => {
  test('abort() resets the peer; both are gone at once', () => {
    const { wire, client, server, near, heard } = establishedConnection();
    near.send({ sizeBytes: 100, id: 0 });
    near.abort();
    wire.sim.run();
    expect(wire.trace).toEqual([
      '3 client > server [P.] 1:101 ack 1',
      '3 client > server [R.] 101 ack 1',
      '4 server > client [.] 1 ack 101',
      '5 client > server [R] 101',
    ]);
    expect(heard).toEqual(['3 client: closed', '4 server: message 0', '4 server: reset']);
    expect([...client.tcp.connections, ...server.tcp.connections]).toEqual([]);
    wire.frames.assertConserved();
  });

  test('when all processes are killed, peers are reset and the dead hear nothing', () => {
    const { wire, server, near, heard } = establishedConnection();
    near.send({ sizeBytes: 100, id: 0 });
    server.tcp.abortAll();
    wire.sim.run();
    expect(heard).toEqual(['4 client: reset']);
    expect(server.tcp.connections).toEqual([]);
    wire.frames.assertConserved();
  });

  test('a reset that does not stand exactly at the next byte is answered, not obeyed (RFC 5961)', () => {
    const { wire, client, server, near } = establishedConnection();
    const blind = wire.frames.allocate();
    wire.fate = (frame, sender) => {
      if (sender === client) {
        fillReset(blind, frame);
        blind.sequence = (frame.acknowledgment + 1_000) | 0; // inside the window
      }
      return CARRIED;
    };
    near.send({ sizeBytes: 10, id: 0 });
    server.send(blind);
    wire.runUntil(ms(10));
    expect(near.state).toBe('ESTABLISHED');
    expect(wire.trace).toEqual([
      '3 client > server [P.] 1:11 ack 1',
      '3 server > client [R] 1001',
      '4 client > server [.] 11 ack 1', // the challenge: a peer that has lost its state would reset properly
      '4 server > client [.] 1 ack 11',
    ]);
    wire.frames.assertConserved();
  });
});

describe('TIME_WAIT', () => {
  /** Four ports only: 40000 and 40002, then 40001 and 40003. */
  const settings = { firstLocalPort: 40_000, lastLocalPort: 40_003 };

  /** A connection that `closer` closes first, as soon as it is established. */
  function exchange(client: WiredHost, server: WiredHost): { port: number; heard: string[] } {
    const heard: string[] = [];
    const { local } = client.tcp.connect(
      { to: { ip: server.ip, port: 80 }, cpu: 0 },
      {
        onConnected: (connection) => connection.close(),
        onClosed: (_, reason) => heard.push(reason),
      },
    );
    return { port: local.port, heard };
  }
  const closeToo = (): TcpHandlers => ({ onPeerClosed: (connection) => connection.close() });

  test('connect() avoids ports in TIME_WAIT, and fails when none is left', () => {
    const { wire, client, server } = clientAndServer({ settings });
    server.tcp.listen({ port: 80, cpu: 0 }, closeToo);
    const ports = [1, 2, 3, 4].map((second) => {
      wire.runUntil(s(second));
      return exchange(client, server).port;
    });
    expect(ports.slice(0, 2).sort()).toEqual([40_000, 40_002]);
    expect(ports.slice(2).sort()).toEqual([40_001, 40_003]);
    const fifth = exchange(client, server);
    wire.runUntil(s(5));
    expect(client.tcp.timeWaitCount).toBe(4);
    expect(fifth.heard).toEqual(['no free port']);
    wire.runUntil(s(62));
    expect(exchange(client, server).port).toBe(ports[0]); // free again since 61 s
  });

  test('with tcp_tw_reuse it takes one that is a second old, and the server is not confused', () => {
    const { wire, client, server } = clientAndServer({ settings: { ...settings, timeWaitReuse: 'on' } });
    server.tcp.listen({ port: 80, cpu: 0 }, closeToo);
    for (let second = 1; second <= 20; second++) {
      const { heard } = exchange(client, server);
      wire.runUntil(s(second));
      expect(heard).toEqual(['closed']);
    }
    expect(client.tcp.timeWaitCount).toBeLessThanOrEqual(2); // one even port after the other
    wire.frames.assertConserved();
  });

  test('a server in TIME_WAIT takes a new SYN for a new connection: its timestamp is later', () => {
    const { wire, client, server } = clientAndServer({ settings });
    server.tcp.listen({ port: 80, cpu: 0 }, () => ({ onMessage: (connection) => connection.close() }));
    const closed: string[] = [];
    const ports = new Set<number>();
    for (let second = 1; second <= 5; second++) {
      const { local } = client.tcp.connect(
        { to: { ip: server.ip, port: 80 }, cpu: 0 },
        {
          onConnected: (connection) => void connection.send({ sizeBytes: 10, id: second }),
          onPeerClosed: (connection) => connection.close(), // second, so that the client's port is free
          onClosed: (_, reason) => closed.push(reason),
        },
      );
      ports.add(local.port);
      wire.runUntil(s(second));
    }
    expect(ports.size).toBeLessThanOrEqual(2);
    expect(closed).toEqual(Array(5).fill('closed'));
    expect(server.tcp.timeWaitCount).toBe(ports.size);
    wire.frames.assertConserved();
  });
});
