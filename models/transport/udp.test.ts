import { describe, expect, test } from 'vitest';
import { inMs, ms } from '../../engine/time.ts';
import { LINUX_6_18 } from '../cpu/cost-model.ts';
import { ICMP_DEST_UNREACHABLE } from '../packet/icmp.ts';
import { formatIp } from '../packet/ip-address.ts';
import { CARRIED, clientAndServer, type WiredHost } from './scripted-wire.fixture.ts';
import type { UdpHandlers, UdpSocket } from './udp.ts';

/** Binds, and writes down what the application hears. */
function bind(host: WiredHost, port = 0): { socket: UdpSocket; heard: string[] } {
  const heard: string[] = [];
  const handlers: UdpHandlers = {
    onDatagram: ({ id }, from) => heard.push(`${inMs(host.cpus.instant)} message ${id} from ${formatIp(from.ip)}`),
    onError: (error, to) => heard.push(`${error} ${formatIp(to.ip)}:${to.port}`),
  };
  return { socket: host.udp.bind({ port, cpu: 0 }, handlers), heard };
}

describe('datagrams', () => {
  test('a query and its answer', () => {
    const { wire, client, server } = clientAndServer();
    const resolver = bind(client);
    server.udp.bind(
      { port: 53, cpu: 0 },
      { onDatagram: ({ id }, from, socket) => socket.send(from, { id: id + 1, sizeBytes: 200 }) },
    );
    resolver.socket.send({ ip: server.ip, port: 53 }, { id: 1, sizeBytes: 40 });
    wire.sim.run();
    expect(wire.trace).toEqual(['0 client > server udp 40', '1 server > client udp 200']);
    expect(resolver.heard).toEqual(['2 message 2 from 10.0.0.2']);
    wire.frames.assertConserved();
  });

  test('one that no application wrote, as a tunnel sends them, is read by its length', () => {
    const { wire, client, server } = clientAndServer();
    const sizes: number[] = [];
    server.udp.bind({ port: 53, cpu: 0 }, { onDatagram: ({ sizeBytes }) => sizes.push(sizeBytes) });
    wire.fate = (frame) => {
      frame.message = undefined;
      return CARRIED;
    };
    bind(client).socket.send({ ip: server.ip, port: 53 }, { id: 1, sizeBytes: 40 });
    wire.sim.run();
    expect(sizes).toEqual([40]);
  });

  test('nobody listens: port unreachable, and the sender hears "refused"', () => {
    const { wire, client, server } = clientAndServer();
    const { socket, heard } = bind(client);
    socket.send({ ip: server.ip, port: 53 }, { id: 1, sizeBytes: 40 });
    wire.sim.run();
    expect(wire.trace).toEqual(['0 client > server udp 40', '1 server > client icmp 3/3']);
    expect(heard).toEqual(['refused 10.0.0.2:53']);
    expect(wire.frames.drops()).toEqual(new Map([['NO_SOCKET', 1]]));
    wire.frames.assertConserved();
  });

  test.each([
    { name: 'host unreachable', code: 1, hears: [] }, // may pass: kept from a socket without IP_RECVERR
    { name: 'communication prohibited', code: 13, hears: ['host unreachable 10.0.0.2:53'] },
  ])('ICMP $name', ({ code, hears }) => {
    const { wire, client, server } = clientAndServer();
    const { socket, heard } = bind(client);
    wire.fate = (frame, sender) => {
      if (sender === client) server.sendIcmpError(frame, ICMP_DEST_UNREACHABLE, code);
      return sender === client ? 'lost' : CARRIED;
    };
    socket.send({ ip: server.ip, port: 53 }, { id: 1, sizeBytes: 40 });
    wire.sim.run();
    expect(heard).toEqual(hears);
  });

  test('what cannot be sent is an error of the sender', () => {
    const { wire, client, server } = clientAndServer();
    const { socket, heard } = bind(client);
    socket.send({ ip: server.ip, port: 53 }, { id: 1, sizeBytes: 65_508 }); // 65535 - 20 IP - 8 UDP = 65507
    client.sendError = 'EPERM';
    socket.send({ ip: server.ip, port: 53 }, { id: 2, sizeBytes: 40 });
    wire.sim.run();
    client.sendError = 'ENETUNREACH';
    socket.send({ ip: server.ip, port: 53 }, { id: 3, sizeBytes: 40 });
    wire.sim.run();
    expect(heard).toEqual([
      'message too long 10.0.0.2:53',
      'not permitted 10.0.0.2:53',
      'network unreachable 10.0.0.2:53',
    ]);
    wire.frames.assertConserved();
  });
});

describe('sockets', () => {
  test('a full receive buffer drops: 256 small datagrams fit into the default', () => {
    const { wire, client, server } = clientAndServer();
    const { socket } = bind(client);
    const receiver = bind(server, 53);
    receiver.socket.pauseReading();
    for (let id = 0; id < 300; id++) socket.send({ ip: server.ip, port: 53 }, { id, sizeBytes: 60 });
    wire.runUntil(ms(10));
    expect(wire.frames.drops()).toEqual(new Map([['SOCKET_RCVBUFF', 44]]));
    expect(receiver.heard).toEqual([]);
    receiver.socket.resumeReading();
    wire.runUntil(ms(20));
    expect(receiver.heard).toHaveLength(256);
    socket.send({ ip: server.ip, port: 53 }, { id: 300, sizeBytes: 60 });
    wire.runUntil(ms(30));
    expect(receiver.heard).toHaveLength(257); // there is room again
    wire.frames.assertConserved();
  });

  test('a closed socket hears nothing, and its port is free again', () => {
    const { wire, client, server } = clientAndServer();
    const { socket } = bind(client);
    const first = bind(server, 53);
    expect(() => bind(server, 53)).toThrow('bind to 0.0.0.0:53 in server: address already in use');
    socket.send({ ip: server.ip, port: 53 }, { id: 0, sizeBytes: 60 });
    first.socket.close();
    const second = bind(server, 53);
    wire.sim.run();
    expect(first.heard).toEqual([]);
    expect(second.heard).toEqual(['1 message 0 from 10.0.0.1']);
  });

  test('ephemeral ports are different ports of the range', () => {
    const { client } = clientAndServer();
    const ports = Array.from({ length: 50 }, () => bind(client).socket.localPort);
    expect(new Set(ports).size).toBe(50);
    expect(Math.min(...ports)).toBeGreaterThanOrEqual(32_768);
    expect(Math.max(...ports)).toBeLessThanOrEqual(60_999);
  });

  test('a datagram costs its sender a system call, its receiver delivery and another', () => {
    const { wire, client, server } = clientAndServer({ costs: LINUX_6_18 });
    const { socket } = bind(client);
    bind(server, 53);
    socket.send({ ip: server.ip, port: 53 }, { id: 0, sizeBytes: 60 });
    wire.sim.run();
    expect(client.cpus.busyTime(0)).toBe(LINUX_6_18.socketSendNs);
    expect(server.cpus.busyTime(0)).toBe(LINUX_6_18.localDeliveryNs + LINUX_6_18.socketReceiveNs);
  });
});
