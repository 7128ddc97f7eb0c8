import { describe, expect, test } from 'vitest';
import { ms, s } from '../../engine/time.ts';
import { parseIp } from '../packet/ip-address.ts';
import { closedLoop } from './client.ts';
import type { Load } from './load.ts';
import { relay } from './relay.ts';
import { echo, Server } from './server.ts';
import { TwoMachines } from './two-machines.fixture.ts';

const AT = 8_000;

/** The client's machine also serves, on port 80; what it asks the other machine for comes back to it from there. */
function relayed(protocol: 'TCP' | 'UDP', { isRefused = false } = {}) {
  const world = new TwoMachines();
  const server = new Server(world.client, echo());
  server.listen(protocol, 80);
  const clients: number[] = [];
  const relaying = relay(world.server, {
    at: { family: 4, ip: world.serverIp, port: AT },
    protocol,
    targetFor({ port }) {
      clients.push(port);
      return isRefused ? undefined : { ip: parseIp('192.0.2.1'), port: 80 };
    },
  });
  const ask = (requests: number, keepAlive = false): Load => {
    const protocolOfLoad = protocol === 'TCP' ? 'tcp' : 'udp';
    return closedLoop(world.client, {
      ...{ to: world.to(AT), protocol: protocolOfLoad, requests, keepAlive, thinkTime: ms(1), timeout: s(1) },
    });
  };
  return { world, server, clients, relaying, ask };
}

describe.each(['TCP', 'UDP'] as const)('over %s', (protocol) => {
  test('the server sees the relay, and the client is answered', () => {
    const { world, ask, clients } = relayed(protocol);
    const load = ask(10);
    world.runFor(s(1));
    expect([load.completed, load.failed]).toEqual([10, 0]);
    expect([...load.perSource]).toEqual([['192.0.2.2', 10]]);
    expect(new Set(clients).size).toBe(10); // a connection, or a socket, per request
  });

  test('a flow that is kept has one of its own', () => {
    const { world, ask, clients } = relayed(protocol);
    const load = ask(10, true);
    world.runFor(s(1));
    expect(load.completed).toBe(10);
    expect(new Set(clients).size).toBe(1);
  });

  test('what is refused gets nowhere', () => {
    const { world, server, ask } = relayed(protocol, { isRefused: true });
    const load = ask(1);
    world.runFor(s(2));
    expect([...load.failures.keys()]).toEqual([protocol === 'TCP' ? 'reset' : 'timed out']);
    expect(server.served).toBe(0);
  });

  test('afterwards nothing is left', () => {
    const { world, ask, relaying } = relayed(protocol);
    ask(10);
    world.runFor(s(60));
    relaying.close();
    expect(world.server.namespace.tcp.connections).toHaveLength(0);
    const load = ask(1);
    world.runFor(s(2));
    expect(load.failures.size).toBe(1);
  });
});

test('a server that is gone ends the client’s connection', () => {
  const { world, server, ask } = relayed('TCP');
  server.close();
  const load = ask(1);
  world.runFor(s(2));
  expect([...load.failures.keys()]).toEqual(['reset']);
});
