// A laboratory for resolvers of C libraries: a client, a cable, and name servers that answer by a script. Recorded facts
// and tests ask in it.

import { Simulator } from '../../engine/simulator.ts';
import { us } from '../../engine/time.ts';
import { FREE } from '../cpu/cost-model.ts';
import { Machine } from '../host/machine.ts';
import type { Process } from '../host/process.ts';
import { connectWire } from '../link/wire.ts';
import type { Message } from '../packet/frame.ts';
import { FrameStore } from '../packet/frame-store.ts';
import { parseIp } from '../packet/ip-address.ts';
import { carry, DNS_PORT, type DnsProtocol, receivedMessage } from './dns-transport.ts';
import { canonical } from './domain-name.ts';
import { type Answer, type Question, responseTo } from './message.ts';
import type { ResolvConf } from './resolv-conf.ts';
import type { SentQuery } from './stub-exchange.ts';
import { type Lookup, StubResolver } from './stub-resolver.ts';

/** What a server (0 is the first) says to a question that it was asked so many times before; undefined: nothing. */
export type Script = (question: Question, server: number, protocol: DnsProtocol, time: number) => Answer | undefined;

export interface Seen {
  readonly lookup: Lookup;
  readonly queries: readonly SentQuery[];
  readonly took: number;
}

/** A client on a cable to a machine with an address per name server. Packet work costs nothing. */
export class StubLab {
  readonly #sim = new Simulator({ seed: 'dns stub' });
  readonly #client: Process;
  readonly #serverIps: readonly string[];
  readonly #times = new Map<string, number>();
  readonly #script: Script;

  constructor({ servers, script }: { readonly servers: number; readonly script: Script }) {
    const frames = new FrameStore();
    const machineNamed = (name: string): Machine =>
      new Machine({ name, sim: this.#sim, frames, cpuCount: 1, costs: FREE, forwarding: false });
    const [client, server] = [machineNamed('client'), machineNamed('server')];
    const [clientNic, serverNic] = [client.addNic('eth0'), server.addNic('eth0')];
    connectWire(clientNic, serverNic, { rateBps: 1e9, delay: us(10) });
    client.root.stack.addAddress(clientNic, parseIp('198.51.100.1'), 24);
    this.#client = { name: 'client', place: client.place, namespace: client.root, cpu: 0 };
    this.#script = script;
    this.#serverIps = Array.from({ length: servers }, (_, i) => `198.51.100.${10 + i}`);
    for (const [i, address] of this.#serverIps.entries()) {
      server.root.stack.addAddress(serverNic, parseIp(address), 24);
      this.#serve({ name: 'server', place: server.place, namespace: server.root, cpu: 0 }, address, i);
    }
  }

  lookup(
    name: string,
    { libc, searches, options }: { readonly libc: 'glibc' | 'musl' } & Pick<ResolvConf, 'searches' | 'options'>,
  ): Seen {
    const queries: SentQuery[] = [];
    const conf = { nameservers: this.#serverIps, searches, options };
    const resolver = new StubResolver(this.#client, { conf, libc, onQuery: (query) => queries.push(query) });
    let seen: Pick<Seen, 'lookup' | 'took'> | undefined;
    resolver.lookup(name, {}, (lookup) => {
      seen = { lookup, took: this.#sim.now };
    });
    this.#sim.run();
    return { ...seen!, queries };
  }

  #serve({ namespace, cpu }: Process, address: string, server: number): void {
    const at = { ip: parseIp(address), port: DNS_PORT, cpu };
    const answer = (message: Message, protocol: DnsProtocol, respond: (response: Message) => void): void => {
      const query = receivedMessage(message, protocol);
      const [question] = query?.questions ?? [];
      if (query === undefined || question === undefined) return;
      const key = `${question.type} ${canonical(question.name)} ${server}`;
      const time = this.#times.get(key) ?? 0;
      this.#times.set(key, time + 1);
      const said = this.#script(question, server, protocol, time);
      if (said !== undefined) respond(carry(responseTo(query, said), protocol));
    };
    namespace.udp.bind(at, {
      onDatagram: (message, from, socket) => answer(message, 'UDP', (response) => socket.send(from, response)),
    });
    namespace.tcp.listen(at, () => ({
      onMessage: (connection, message) => answer(message, 'TCP', (response) => connection.send(response)),
      onPeerClosed: (connection) => connection.close(),
    }));
  }
}
