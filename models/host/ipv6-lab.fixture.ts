// For tests of IPv6 on nodes: two of them on one switch, with pods behind their bridges, and every frame that passes the
// pods' and the nodes' eth0, as text. MACs and addresses are those of the experiment in the kernel that the tests quote.
//
//   p1 fd00:10:244:1::2, p2 fd00:10:244:1::3 ── cbr0 fd00:10:244:1::1  n1 fd00:192:168::1 ─┐
//   p3 fd00:10:244:2::2                      ── cbr0 fd00:10:244:2::1  n2 fd00:192:168::2 ─┴─ switch

import { Simulator } from '../../engine/simulator.ts';
import { after, type Duration } from '../../engine/time.ts';
import { FREE } from '../cpu/cost-model.ts';
import { CpuSet } from '../cpu/cpu-set.ts';
import { Bridge } from '../link/bridge.ts';
import type { NetDevice } from '../link/net-device.ts';
import { createVethPair } from '../link/veth.ts';
import { parseIptablesSave, restoreTables } from '../netfilter/iptables-save.ts';
import { describeFrame } from '../packet/describe.ts';
import { type Frame, PROTOCOL_ICMPV6, PROTOCOL_TCP, PROTOCOL_UDP, TCP_SYN } from '../packet/frame.ts';
import { FrameStore } from '../packet/frame-store.ts';
import { ICMPV6_ECHO_REQUEST } from '../packet/icmpv6.ts';
import { ANY_IPV6_PREFIX, parseIpv6, parseIpv6Prefix } from '../packet/ip-address.ts';
import { type Mac, parseMac } from '../packet/mac.ts';
import { NetworkNamespace } from './network-namespace.ts';

export const P1 = parseIpv6('fd00:10:244:1::2');
export const P2 = parseIpv6('fd00:10:244:1::3');
export const P3 = parseIpv6('fd00:10:244:2::2');
export const GATEWAY = parseIpv6('fd00:10:244:1::1');

export class Ipv6Lab {
  readonly sim = new Simulator({ seed: 'ipv6' });
  readonly frames = new FrameStore();
  readonly #cpus = new CpuSet(this.sim.place('lab'), { count: 1, costs: FREE });
  readonly #namespaces = new Map<string, NetworkNamespace>();
  #seen: string[] = [];

  /** `fabricMtuBytes`: of the nodes' uplinks. `ratelimit`: net.ipv6.icmp.ratelimit of the nodes. */
  constructor({ fabricMtuBytes = 1500, ratelimit = 0 } = {}) {
    const fabric = this.#make('fabric', { forwarding: false });
    const lan = fabric.add(new Bridge(fabric.device('fab0', parseMac('02:00:00:00:00:01'))));
    for (const [number, pods] of [
      [1, ['p1', 'p2']],
      [2, ['p3']],
    ] as const) {
      const node = this.#make(`n${number}`, { forwarding: true });
      const mac = (last: number): Mac => parseMac(`02:00:00:00:0${number}:${last}`);
      const cbr0 = node.add(new Bridge(node.device('cbr0', parseMac(`02:00:00:00:0${number}:01`))));
      const uplink = createVethPair({
        inside: { ...node.device('eth0', parseMac(`02:00:00:00:0${number}:02`)), mtuBytes: fabricMtuBytes },
        outside: fabric.device(`f${number}`, parseMac(`02:00:00:00:00:1${number}`)),
      });
      this.#watch(node.add(uplink.inside));
      lan.addPort(fabric.add(uplink.outside));
      const ipv6 = node.stack.enableIpv6();
      ipv6.setForwarding(1);
      ipv6.settings.icmp_ratelimit = ratelimit;
      ipv6.addAddress(cbr0, parseIpv6(`fd00:10:244:${number}::1`), 64);
      ipv6.addAddress(uplink.inside, parseIpv6(`fd00:192:168::${number}`), 64);
      const other = 3 - number;
      ipv6.addRoute({
        destination: parseIpv6Prefix(`fd00:10:244:${other}::/64`),
        device: uplink.inside,
        gateway: parseIpv6(`fd00:192:168::${other}`),
      });
      for (const [i, name] of pods.entries()) this.#addPod(node, cbr0, { name, number, i, mac: mac(10 + i) });
    }
  }

  namespace(name: string): NetworkNamespace {
    const namespace = this.#namespaces.get(name);
    if (namespace === undefined) throw new RangeError(`no namespace ${name}`);
    return namespace;
  }

  /** ip6tables-restore in a node. */
  restore(node: string, text: string): void {
    restoreTables(this.namespace(node).enableNetfilter().tables6, parseIptablesSave(text, { family: 6 }));
  }

  /**
   * A packet from p1 as from a packet socket, by default to the gateway's MAC; the frames that it causes at once, without
   * itself: `p3 in …`.
   */
  send(fields: Partial<Frame>): string[] {
    const eth0 = this.namespace('p1').deviceNamed('eth0');
    const frame = this.frames.allocate();
    frame.setFamily(6);
    Object.assign(frame, { srcMac: eth0.mac, dstMac: parseMac('02:00:00:00:01:01'), srcIp: P1, ...fields });
    frame.updateSize();
    this.#cpus.submit(0, (sent: Frame) => eth0.transmit(sent), frame);
    this.sim.run({ until: this.sim.now });
    return this.drain().slice(1);
  }

  /** What passed since it was last asked. */
  drain(): string[] {
    const seen = this.#seen;
    this.#seen = [];
    return seen;
  }

  runFor(duration: Duration): string[] {
    this.sim.run({ until: after(this.sim.now, duration) });
    return this.drain();
  }

  #addPod(
    node: NetworkNamespace,
    cbr0: Bridge,
    { name, number, i, mac }: { name: string; number: number; i: number; mac: Mac },
  ): void {
    const pod = this.#make(name, { forwarding: false });
    const { inside, outside } = createVethPair({
      inside: pod.device('eth0', mac),
      outside: node.device(`veth${i}`, parseMac(`02:00:00:00:0${number}:2${i}`)),
    });
    this.#watch(pod.add(inside));
    cbr0.addPort(node.add(outside));
    const ipv6 = pod.stack.enableIpv6();
    ipv6.addAddress(inside, parseIpv6(`fd00:10:244:${number}::${i + 2}`), 64);
    ipv6.addRoute({
      destination: ANY_IPV6_PREFIX,
      device: inside,
      gateway: parseIpv6(`fd00:10:244:${number}::1`),
    });
  }

  #make(name: string, { forwarding }: { forwarding: boolean }): NetworkNamespace {
    const namespace = new NetworkNamespace({ name, cpus: this.#cpus, frames: this.frames, forwarding });
    this.#namespaces.set(name, namespace);
    return namespace;
  }

  #watch(device: NetDevice): void {
    device.tap = (frame, direction) =>
      this.#seen.push(`${device.namespace} ${direction} ${describeFrame(frame)} ttl ${frame.ttl}`);
  }
}

export const udp = (dstIp: Frame['dstIp'], fields: Partial<Frame> = {}): Partial<Frame> => ({
  protocol: PROTOCOL_UDP,
  dstIp,
  srcPort: 4000,
  dstPort: 53,
  ...fields,
});

export const syn = (dstIp: Frame['dstIp'], dstPort: number): Partial<Frame> => ({
  protocol: PROTOCOL_TCP,
  dstIp,
  srcPort: 4000,
  dstPort,
  tcpFlags: TCP_SYN,
  sequence: 1000,
});

export const echo = (dstIp: Frame['dstIp'], fields: Partial<Frame> = {}): Partial<Frame> => ({
  protocol: PROTOCOL_ICMPV6,
  icmpType: ICMPV6_ECHO_REQUEST,
  icmpIdentifier: 7,
  icmpSequence: 1,
  dstIp,
  ...fields,
});
