// A client and a server on a cable of 10 us; what their kernels do costs nothing.

import { describe, expect, test } from 'vitest';
import { RandomStream } from '../../engine/random.ts';
import { inMs, ms, s, us } from '../../engine/time.ts';
import { TwoMachines } from '../workload/two-machines.fixture.ts';
import { type Answering, DnsServer, type DnsServerSettings } from './dns-server.ts';
import { carry, datagramOf, receivedMessage } from './dns-transport.ts';
import { DEFAULT_FORWARD, Forwarder } from './forwarder.ts';
import { type Answer, type DnsMessage, emptyAnswer, type Question, queryFor } from './message.ts';
import { NameServer } from './name-server.ts';
import { StaticZone } from './static-zone.ts';

const WORLD = new StaticZone('.', [{ name: 'web.', ttlSeconds: 5, type: 'A', address: '192.0.2.7' }]);
const QUESTION: Question = { name: 'web.', type: 'A' };

class Lab {
  readonly machines = new TwoMachines();
  readonly server: DnsServer;
  readonly answers: { readonly at: number; readonly message: DnsMessage }[] = [];
  readonly #socket;

  constructor(settings: Partial<DnsServerSettings>, names?: Answering) {
    const { client, server, sim } = this.machines;
    const zone = new NameServer({ zones: [WORLD], random: new RandomStream('order'), now: () => sim.now });
    this.server = new DnsServer(server, names ?? zone, { settings });
    for (const protocol of ['UDP', 'TCP'] as const) this.server.listen(protocol);
    this.#socket = client.namespace.udp.bind(
      { cpu: 0, receiveBufferBytes: 1e9 },
      {
        onDatagram: (datagram) => {
          this.answers.push({ at: inMs(sim.now), message: receivedMessage(datagram, 'UDP')! });
        },
      },
    );
  }

  ask(count: number): void {
    for (let id = 0; id < count; id++)
      this.#socket.send(this.machines.to(53), carry(queryFor(QUESTION, { id }), 'UDP'));
  }

  sendBytes(...bytes: number[]): void {
    this.#socket.send(this.machines.to(53), datagramOf(0, Uint8Array.from(bytes)));
  }
}

describe('capacity', () => {
  test.each([
    [1, 100],
    [4, 25],
  ])('with %i cores a hundred questions of 1 ms take %i ms', (cores, took) => {
    const lab = new Lab({ cores, serviceTime: ms(1) });
    lab.ask(100);
    lab.machines.runFor(s(1));
    expect(lab.answers).toHaveLength(100);
    expect(lab.answers.at(-1)!.at).toBeCloseTo(took, 0);
    expect(lab.server.longestQueue).toBe(100 - cores);
  });

  test('what comes when the queue is full waits in the buffer of the socket, or is dropped', () => {
    const lab = new Lab({ serviceTime: ms(1), queueLimit: 10 });
    lab.ask(1); // and the neighbors know each other
    lab.machines.runFor(ms(100));
    lab.ask(800);
    lab.machines.runFor(s(5));
    // SO_RCVBUF of 212,992 bytes holds 277 datagrams of 768 bytes with their overhead; 11 were read before.
    const { length } = lab.answers;
    expect(length).toBeGreaterThan(200);
    expect(length).toBeLessThan(320);
    expect(lab.machines.frames.drops().get('SOCKET_RCVBUFF')).toBe(801 - length);
  });
});

describe('a server answers what is wrong', () => {
  test('a question that runs past its end: FORMERR, with its id', () => {
    const lab = new Lab({});
    lab.sendBytes(0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 60);
    lab.machines.runFor(ms(1));
    expect(lab.answers.map(({ message }) => [message.id, message.rcode])).toEqual([[0x1234, 'FORMERR']]);
  });

  test('a compression loop: FORMERR', () => {
    const lab = new Lab({});
    lab.sendBytes(0, 1, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0xc0, 12, 0, 1, 0, 1);
    lab.machines.runFor(ms(1));
    expect(lab.answers.map(({ message }) => message.rcode)).toEqual(['FORMERR']);
  });

  test('but not an answer, nor what is too short to have an id', () => {
    const lab = new Lab({});
    lab.sendBytes(0, 1, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0);
    lab.sendBytes(0, 1, 0x80, 0, 0, 9, 0, 0, 0, 0, 0, 0);
    lab.sendBytes(0, 1);
    lab.machines.runFor(ms(1));
    expect(lab.answers).toEqual([]);
  });

  test('a record that no message can carry: SERVFAIL', () => {
    const target = `${'a'.repeat(64)}.example.`;
    const answer: Answer = {
      ...emptyAnswer('NOERROR'),
      answers: [{ ...QUESTION, ttlSeconds: 5, type: 'CNAME', target }],
    };
    const lab = new Lab({}, { answer: (_question, done) => done(answer) });
    lab.ask(1);
    lab.machines.runFor(ms(1));
    expect(lab.answers.map(({ message }) => message.rcode)).toEqual(['SERVFAIL']);
  });
});

describe('questions handed on', () => {
  /** The client forwards to the server, and to an address where nobody listens for what it does not answer. */
  function forwardTo(
    addresses: readonly string[],
    settings: Partial<typeof DEFAULT_FORWARD> = {},
    server: Partial<DnsServerSettings> = {},
  ) {
    const lab = new Lab({ serviceTime: us(10), ...server });
    const { client, serverIp } = lab.machines;
    const upstreams = addresses.map((address) => ({
      family: 4 as const,
      ip: address === 'server' ? serverIp : (((serverIp as number) + 1) as typeof serverIp),
      port: 53,
    }));
    const forwarder = new Forwarder(client, { ...DEFAULT_FORWARD, policy: 'sequential', ...settings, upstreams });
    const seen: string[] = [];
    const ask = (): void => {
      const began = lab.machines.sim.now;
      forwarder.ask(QUESTION, (answer) => {
        seen.push(`${answer?.rcode ?? 'none'} after ${((lab.machines.sim.now - began) / 1e9).toFixed(1)} s`);
      });
    };
    return { lab, forwarder, seen, ask };
  }

  test.each(['UDP', 'TCP'] as const)('over %s go over one socket or connection, as long as it is used', (protocol) => {
    const { lab, seen, ask } = forwardTo(['server'], { protocol });
    for (let i = 0; i < 5; i++) {
      ask();
      lab.machines.runFor(s(1));
    }
    expect(seen).toEqual(Array.from({ length: 5 }, () => 'NOERROR after 0.0 s'));
    expect(lab.machines.synsReceived).toBe(protocol === 'TCP' ? 1 : 0);
    lab.machines.runFor(s(11)); // expire 10s
    ask();
    lab.machines.runFor(s(1));
    expect(lab.machines.synsReceived).toBe(protocol === 'TCP' ? 2 : 0);
  });

  test('a silent upstream costs 2 s, until two health checks have failed; then the other is asked at once', () => {
    const { lab, seen, ask } = forwardTo(['nobody', 'server']);
    ask();
    lab.machines.runFor(s(10));
    ask();
    lab.machines.runFor(s(1));
    expect(seen).toEqual(['NOERROR after 2.0 s', 'NOERROR after 0.0 s']);
  });

  test('an upstream that loses every answer: none within 5 s, and the question has been asked three times', () => {
    const { lab, seen, ask } = forwardTo(['server'], { maxFails: 0 }, { lossFraction: 1 });
    ask();
    lab.machines.runFor(s(10));
    expect(seen).toEqual(['none after 6.0 s']); // at 0, 2 and 4 s, each for 2 s
    expect(lab.server.received).toBe(3);
  });

  test('more than may be under way are refused', () => {
    const { lab, seen, ask } = forwardTo(['server'], { maxConcurrent: 2 });
    for (let i = 0; i < 3; i++) ask();
    lab.machines.runFor(s(1));
    expect(seen).toEqual(['REFUSED after 0.0 s', 'NOERROR after 0.0 s', 'NOERROR after 0.0 s']);
  });
});
