// One conversation at a time between two pods of a simulated network, at given costs: how long each takes its client.

import { after, ms } from '../../engine/time.ts';
import type { CostModel } from '../cpu/cost-model.ts';
import { parseIp } from '../packet/ip-address.ts';
import { quantile } from './calibration/measurement.ts';
import type { NodeRules, Topology } from './case.ts';
import { SimulatedNetwork } from './simulator/network.ts';
import { loadRules } from './simulator/rules.ts';

/** Between the pods `client` and `server`; the rules are those of node `n1`. */
export interface Conversation {
  readonly topology: Topology;
  readonly rules?: NodeRules;
  readonly costs: CostModel;
  readonly protocol: 'tcp' | 'udp';
  readonly to: { readonly ip: string; readonly port: number };
  readonly serverPort: number;
  /** Of datagrams. */
  readonly sizeBytes?: number;
}

/** Few are enough: nothing else happens, and nothing is left to chance. */
const COUNT = 11;
/** Client and server are one process, as in the measurement. */
const CPU = 0;

/** Median in nanoseconds of connect() or of a round trip. */
export function simulateLatency(conversation: Conversation): number {
  const { topology, rules, costs, protocol } = conversation;
  const network = new SimulatedNetwork(topology, 'latency', costs);
  if (rules !== undefined) loadRules(network.namespace('n1'), rules, 'n1');
  const once = protocol === 'tcp' ? connects(network, conversation) : roundTrips(network, conversation);
  const times: number[] = [];
  for (let i = 0; i < COUNT; i++) {
    const began = network.sim.now;
    let ended: number | undefined;
    once(() => {
      ended = network.sim.now;
    });
    network.sim.run({ until: after(network.sim.now, ms(5)) });
    network.drain();
    if (ended === undefined) throw new Error(`no answer from ${conversation.to.ip}:${conversation.to.port}`);
    times.push(ended - began);
  }
  return quantile(times, 0.5);
}

type Once = (done: () => void) => void;

function connects(network: SimulatedNetwork, { to, serverPort }: Conversation): Once {
  network.namespace('server').tcp.listen({ port: serverPort, cpu: CPU }, () => ({}));
  const { tcp } = network.namespace('client');
  return (done) => {
    const handlers = {
      onConnected(connection: { abort(): void }) {
        done();
        connection.abort();
      },
    };
    tcp.connect({ to: { ip: parseIp(to.ip), port: to.port }, cpu: CPU }, handlers);
  };
}

function roundTrips(network: SimulatedNetwork, { to, serverPort, sizeBytes = 18 }: Conversation): Once {
  network
    .namespace('server')
    .udp.bind({ port: serverPort, cpu: CPU }, { onDatagram: (message, from, socket) => socket.send(from, message) });
  let answered: () => void = () => undefined;
  const socket = network.namespace('client').udp.bind({ cpu: CPU }, { onDatagram: () => answered() });
  return (done) => {
    answered = done;
    socket.send({ ip: parseIp(to.ip), port: to.port }, { id: 0, sizeBytes });
  };
}
