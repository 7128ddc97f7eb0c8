// Who reaches whom: samples the data path of a cluster by sending the first packet of a connection between every two
// parties and watching whether it comes in over there; and what the analytical evaluator says of the same connections.
//
// A packet that comes in has been let through by every node on its way. Whether a program listens does not matter. Answers
// are not waited for: what tracks connections lets them back.

import { ms, us } from '../engine/time.ts';
import type { Cluster } from './cluster.ts';
import { outsideClientIp } from './host/outside-world.ts';
import type { Process } from './host/process.ts';
import type { ClusterNode } from './kube/cluster-node.ts';
import { addressesOf, type RunningPod } from './kube/kubelet.ts';
import { type Party, PolicyEvaluator, type Verdict } from './kube/network-policy/evaluator.ts';
import type { ServiceProtocol } from './kube/objects.ts';
import type { DeviceTap } from './link/net-device.ts';
import { type Message, PROTOCOL_SCTP, PROTOCOL_TCP, PROTOCOL_UDP, TCP_SYN } from './packet/frame.ts';
import { formatIp, type Ip, type IpFamily } from './packet/ip-address.ts';

export interface ReachablePort {
  readonly family: IpFamily;
  readonly protocol: ServiceProtocol;
  readonly port: number;
}

/** A place that connections come from and go to. */
export interface ReachParty {
  /** `default/web-0`, or `outside`. */
  readonly name: string;
  readonly process: Process;
  readonly ip: Ip;
  /** What clients connect to, if not its own address: a Service's in front of it. */
  readonly serviceIp?: Ip;
  /** Where it runs, if in the cluster. */
  readonly node: ClusterNode | undefined;
  /** As policies see it. */
  readonly seenAs: Party;
}

/** Who has an address of the family: pods, and the world outside. */
export function partiesOf(cluster: Cluster, family: IpFamily, { outside = true } = {}): ReachParty[] {
  const pods = cluster.pods.flatMap((running: RunningPod): ReachParty[] => {
    const address = addressesOf(running).find((own) => own.family === family);
    const object = cluster.api.get('Pod', running.name);
    if (address === undefined || object === undefined) return [];
    const node = cluster.node(running.node);
    return [{ name: running.name, process: running, ip: address.ip, node, seenAs: object }];
  });
  return outside ? [...pods, outsideOf(cluster, family)] : pods;
}

function outsideOf({ outside }: Cluster, family: IpFamily): ReachParty {
  const ip = outsideClientIp(family);
  return { name: 'outside', process: outside.client, ip, node: undefined, seenAs: formatIp(ip, family) };
}

/** Rows are clients, columns servers, both in the order of the parties. */
export type ReachMatrix<Cell> = readonly (readonly Cell[])[];

/** What policies say of every two parties. */
export function judgeReachability(
  { api }: Cluster,
  parties: readonly ReachParty[],
  connection: ReachablePort,
): ReachMatrix<Verdict> {
  const evaluator = new PolicyEvaluator({
    policies: api.list('NetworkPolicy'),
    pods: api.list('Pod'),
    namespaces: api.list('Namespace'),
  });
  return parties.map((from) =>
    parties.map((to) => evaluator.judge({ ...connection, from: from.seenAs, to: to.seenAs })),
  );
}

/** Sends packets through a cluster that has been started. */
export class ReachabilitySampler {
  readonly #cluster: Cluster;
  #packets = 0;

  constructor(cluster: Cluster) {
    this.#cluster = cluster;
  }

  /** Whose packet comes in at whom. */
  sample(parties: readonly ReachParty[], connection: ReachablePort): ReachMatrix<boolean> {
    const cluster = this.#cluster;
    this.#routeFromOutside(parties, connection.family);
    const arrived = new Set<Message>();
    const stopWatching = watchArrivals(parties, arrived);
    let count = 0;
    const packets = parties.map((from) =>
      parties.map((to) => {
        const message: Message = { id: this.#packets, sizeBytes: 0 };
        const srcPort = FIRST_SOURCE_PORT + (this.#packets++ % SOURCE_PORTS);
        const packet = { from, to, message, srcPort, ...connection };
        from.process.place.schedule(us(count++ * SPACING_US), submit, packet);
        return message;
      }),
    );
    cluster.runFor(us(count * SPACING_US));
    cluster.runFor(LONGEST_WAY);
    stopWatching();
    return packets.map((row) => row.map((message) => arrived.has(message)));
  }

  /** Pods are asked by their own addresses, which the world outside does not know otherwise. */
  #routeFromOutside(parties: readonly ReachParty[], family: IpFamily): void {
    const { outside } = this.#cluster;
    if (parties.every(({ process }) => process !== outside.client)) return;
    for (const { ip, node } of parties) {
      const via = node?.addressOf(family);
      if (via !== undefined && via !== ip) outside.routeToPod({ family, ip }, { via });
    }
  }
}

/** So that no queue fills up, among them that of a neighbor which is being asked for. */
const SPACING_US = 50;
const LONGEST_WAY = ms(10);
const FIRST_SOURCE_PORT = 1_024;
const SOURCE_PORTS = 60_000;

interface Packet extends ReachablePort {
  readonly from: ReachParty;
  readonly to: ReachParty;
  readonly message: Message;
  readonly srcPort: number;
}

const submit = (packet: Packet): void => {
  const { namespace, cpu } = packet.from.process;
  namespace.cpus.submit(cpu, send, packet);
};

/** The first packet of a connection: a SYN, a datagram, or what stands for an INIT. */
function send({ from, to, message, srcPort, family, protocol, port }: Packet): void {
  const { stack } = from.process.namespace;
  const frame = stack.frames.allocate();
  frame.setFamily(family);
  frame.protocol = PROTOCOLS[protocol];
  if (protocol === 'TCP') frame.tcpFlags = TCP_SYN;
  frame.srcIp = from.ip;
  frame.dstIp = to.serviceIp ?? to.ip;
  frame.srcPort = srcPort;
  frame.dstPort = port;
  frame.message = message;
  frame.updateSize();
  stack.send(frame);
}

const PROTOCOLS = { TCP: PROTOCOL_TCP, UDP: PROTOCOL_UDP, SCTP: PROTOCOL_SCTP } as const;

/** Notes what comes in at each party's own address. Returns a stop. */
function watchArrivals(parties: readonly ReachParty[], arrived: Set<Message>): () => void {
  const devices = new Set(parties.flatMap(({ process }) => process.namespace.devices));
  const addresses = new Map(parties.map(({ process, ip }) => [process.namespace.name, ip]));
  const tap: DeviceTap = ({ dstIp, message }, direction, device) => {
    if (direction === 'in' && message !== undefined && addresses.get(device.namespace) === dstIp) arrived.add(message);
  };
  for (const device of devices) device.tap = tap;
  return () => {
    for (const device of devices) device.tap = undefined;
  };
}
