import fc from 'fast-check';
import { expect, test } from 'vitest';
import { minutes, ms, us } from '../../engine/time.ts';
import { CARRIED, clientAndServer, type Fate } from './scripted-wire.fixture.ts';
import type { TcpConnection, TcpHandlers } from './tcp-connection.ts';

// Whatever the network does to the packets, as long as it lets some through, each application gets exactly the messages
// that the other sent, in order, both connections end, and every frame is accounted for.

const fates = fc.array(
  fc.oneof(
    { weight: 6, arbitrary: fc.constant(CARRIED) },
    { weight: 2, arbitrary: fc.constant<Fate>('lost') },
    { weight: 2, arbitrary: fc.integer({ min: 0, max: 8_000 }).map((delay): Fate => [us(delay)]) },
    {
      weight: 1,
      arbitrary: fc.tuple(fc.nat(5_000), fc.nat(300_000)).map(([one, two]): Fate => [us(one), us(two)]),
    },
  ),
  { minLength: 0, maxLength: 120 },
);
const sizes = fc.array(fc.oneof(fc.integer({ min: 1, max: 200 }), fc.integer({ min: 1, max: 30_000 })), {
  maxLength: 12,
});
const settings = fc.record({
  noDelay: fc.boolean(),
  timestamps: fc.boolean(),
  receiveBufferBytes: fc.constantFrom(4_000, 131_072),
});

test('messages survive loss, reordering and duplication, in both directions', () => {
  fc.assert(
    fc.property(fates, fates, sizes, sizes, settings, (clientFates, serverFates, requests, responses, chosen) => {
      const { wire, client, server } = clientAndServer({
        settings: { ...chosen, receiveBufferMaxBytes: chosen.receiveBufferBytes },
      });
      wire.fate = (_, { name }, index) => (name === 'client' ? clientFates : serverFates)[index] ?? CARRIED;
      const got = { client: [] as number[], server: [] as number[] };
      const ends: string[] = [];
      const speak = (connection: TcpConnection, sizesBytes: readonly number[]): void => {
        for (const [id, sizeBytes] of sizesBytes.entries()) connection.send({ id, sizeBytes });
        connection.shutdownSend();
      };
      const handlers = (name: 'client' | 'server'): TcpHandlers => ({
        onMessage: (_, { id }) => got[name].push(id),
        onClosed: (_, reason) => ends.push(`${name} ${reason}`),
      });
      server.tcp.listen({ port: 80, cpu: 0 }, (connection) => {
        speak(connection, responses);
        return handlers('server');
      });
      speak(client.tcp.connect({ to: { ip: server.ip, port: 80 }, cpu: 0 }, handlers('client')), requests);
      wire.runUntil(minutes(60));
      expect(got).toEqual({ client: [...responses.keys()], server: [...requests.keys()] });
      expect(ends.sort()).toEqual(['client closed', 'server closed']);
      expect([client.tcp.connections, server.tcp.connections]).toEqual([[], []]);
      expect(wire.sim.pendingEvents).toBe(0);
      wire.frames.assertConserved();
    }),
    { numRuns: 300 },
  );
});

test('an application that reads in fits gets everything too', () => {
  const pauses = fc.array(fc.tuple(fc.nat(300), fc.nat(300)), { maxLength: 6 });
  fc.assert(
    fc.property(fates, fates, sizes, pauses, (clientFates, serverFates, requests, naps) => {
      const { wire, client, server } = clientAndServer({
        settings: { receiveBufferBytes: 10_000, receiveBufferMaxBytes: 10_000 },
      });
      wire.fate = (_, { name }, index) => (name === 'client' ? clientFates : serverFates)[index] ?? CARRIED;
      const got: number[] = [];
      server.tcp.listen({ port: 80, cpu: 0 }, (connection) => {
        let at = 0;
        for (const [awake, asleep] of naps) {
          server.cpus.place.schedule(ms((at += awake)), () => connection.pauseReading(), undefined);
          server.cpus.place.schedule(ms((at += asleep)), () => connection.resumeReading(), undefined);
        }
        return { onMessage: (_, { id }) => got.push(id) };
      });
      const connection = client.tcp.connect({ to: { ip: server.ip, port: 80 }, cpu: 0 }, {});
      for (const [id, sizeBytes] of requests.entries()) connection.send({ id, sizeBytes });
      wire.runUntil(minutes(60));
      expect(got).toEqual([...requests.keys()]);
      wire.frames.assertConserved();
    }),
    { numRuns: 200 },
  );
});
