// The program at a node's device: packets from outside that name a Service go to one of its endpoints, by one lookup each.
//
// To an endpoint on this node they go with their client's address; the answer gets the Service's address as its source where
// it leaves. To one elsewhere they are sent on at once, past netfilter: either with this node's address as their source, so
// that the answer comes back here (SNAT), or inside a tunnel's datagram for the endpoint, whose node answers the client by
// itself (direct server return, DSR).
//
// Not modelled: ICMP errors about such connections, fragments, IPv6, XDP.

import type { RandomStream } from '../../../engine/random.ts';
import { after, type Duration, type Instant, s } from '../../../engine/time.ts';
import type { DeviceProgram } from '../../ip/device-program.ts';
import type { IpStack } from '../../ip/stack.ts';
import { hasPorts } from '../../netfilter/connection-tuple.ts';
import { formatTuple } from '../../packet/describe.ts';
import {
  type Frame,
  IPV4_HEADER_BYTES,
  PROTOCOL_TCP,
  PROTOCOL_UDP,
  TCP_FIN,
  TCP_RST,
  UDP_HEADER_BYTES,
} from '../../packet/frame.ts';
import { ICMP_DEST_UNREACHABLE, ICMP_FRAGMENTATION_NEEDED, ICMP_PORT_UNREACHABLE } from '../../packet/icmp.ts';
import { contains, type Ip } from '../../packet/ip-address.ts';
import { Affinities, byChance, byMaglev } from './backend-choice.ts';
import type { Backend, EbpfService, ServiceMap } from './service-map.ts';

export interface NodePortSettings {
  /** How a new connection gets its backend. */
  readonly algorithm: 'random' | 'maglev';
  /** Endpoints elsewhere answer clients themselves. */
  readonly directServerReturn: boolean;
}

export const DEFAULT_NODE_PORT_SETTINGS: NodePortSettings = { algorithm: 'random', directServerReturn: false };

/** A connection from outside. */
interface Flow {
  readonly protocol: number;
  readonly clientIp: Ip;
  readonly clientPort: number;
  /** As the client knows it. */
  readonly ip: Ip;
  readonly port: number;
  readonly backend: Backend;
  /** The source port that it has on the way to a backend elsewhere. */
  readonly snatPort: number | undefined;
  expiresAt: Instant;
}

/** Ports of this node that connections may be sent on from: above node ports (NODEPORT_PORT_MIN_NAT). */
const FIRST_SNAT_PORT = 32_768;
const LAST_SNAT_PORT = 65_535;
/** Ports tried at random when the client's own is taken (SNAT_COLLISION_RETRIES). */
const SNAT_ATTEMPTS = 32;

/** Lifetimes of entries in Cilium's table of connections: 6 hours, 60 s, and 10 s for what is closed. */
const TCP_LIFETIME = s(21_600);
const OTHER_LIFETIME = s(60);
const CLOSING_LIFETIME = s(10);

/** Geneve (RFC 8926), with the Service's address as an option of 12 bytes; the packet itself is as it came. */
const DSR_PORT = 6_081;
const DSR_HEADER_BYTES = 8 + 12;
const DSR_OVERHEAD_BYTES = IPV4_HEADER_BYTES + UDP_HEADER_BYTES + DSR_HEADER_BYTES + 14;

export class NodePortProgram implements DeviceProgram {
  settings = DEFAULT_NODE_PORT_SETTINGS;
  readonly #services: ServiceMap;
  readonly #stack: IpStack;
  readonly #random: RandomStream;
  /** The node's address by this device. */
  readonly #nodeIp: Ip;
  readonly #affinities = new Affinities();
  /** By the client's packets as they come in, and by the backend's as it sends them. */
  readonly #byRequest = new Map<string, Flow>();
  readonly #byAnswer = new Map<string, Flow>();

  constructor(
    services: ServiceMap,
    { stack, random, nodeIp }: { readonly stack: IpStack; readonly random: RandomStream; readonly nodeIp: Ip },
  ) {
    this.#services = services;
    this.#stack = stack;
    this.#random = random;
    this.#nodeIp = nodeIp;
  }

  ingress(frame: Frame): Frame | undefined {
    const { cpus, frames } = this.#stack;
    frames.recorder.spoil(); // what is remembered of ways knows nothing of this table
    cpus.charge(cpus.costs.ebpfProgramNs);
    if (frame.inner !== undefined && frame.protocol === PROTOCOL_UDP && frame.dstPort === DSR_PORT)
      return this.#takeFromTunnel(frame);
    if (!hasPorts(frame.protocol)) return frame;
    cpus.charge(cpus.costs.ebpfLookupNs);
    const answered = this.#find(this.#byAnswer, packetKey(frame));
    if (answered?.snatPort !== undefined) return this.#answerFromElsewhere(frame, answered);
    const service = this.#services.find(frame.protocol, frame.dstIp, frame.dstPort);
    if (service?.outside === undefined) return frame;
    cpus.charge(2 * cpus.costs.ebpfLookupNs);
    const flow = this.#find(this.#byRequest, packetKey(frame)) ?? this.#begin(frame, service, service.outside);
    return flow === undefined ? undefined : this.#forward(frame, flow);
  }

  egress(frame: Frame): void {
    const { cpus, frames } = this.#stack;
    frames.recorder.spoil();
    cpus.charge(cpus.costs.ebpfProgramNs);
    if (!hasPorts(frame.protocol)) return;
    cpus.charge(cpus.costs.ebpfLookupNs);
    const flow = this.#find(this.#byAnswer, packetKey(frame));
    if (flow === undefined || flow.snatPort !== undefined) return;
    this.#follow(flow, frame);
    this.#rewrite(frame, { srcIp: flow.ip, srcPort: flow.port });
  }

  // ── a client's packet ──────────────────────────────────────────────────────────────────────────────────────────────

  /** Undefined: it may not come in, or nobody serves it. */
  #begin(frame: Frame, service: EbpfService, backends: readonly Backend[]): Flow | undefined {
    const { sourceRanges } = service;
    const isAllowed = sourceRanges.length === 0 || sourceRanges.some((range) => contains(range, frame.srcIp));
    if (backends.length === 0 && !service.isServedSomewhere)
      this.#stack.sendIcmpError(frame, ICMP_DEST_UNREACHABLE, ICMP_PORT_UNREACHABLE);
    if (backends.length === 0 || !isAllowed) {
      this.#stack.drop(frame, 'TC_INGRESS');
      return undefined;
    }
    const ends = {
      ...{ protocol: frame.protocol, clientIp: frame.srcIp, clientPort: frame.srcPort },
      ...{ ip: frame.dstIp, port: frame.dstPort },
    };
    const now = this.#stack.cpus.instant;
    const backend = this.#affinities.choose(service, { backends, client: `${frame.srcIp}`, now }, () =>
      this.settings.algorithm === 'maglev' ? byMaglev(backends, ends) : byChance(backends, this.#random),
    );
    const needsSnat = !backend.isLocal && !this.settings.directServerReturn;
    const snatPort = needsSnat ? this.#freePort(frame, backend) : undefined;
    if (needsSnat && snatPort === undefined) {
      this.#stack.drop(frame, 'TC_INGRESS');
      return undefined;
    }
    return this.#add({ ...ends, backend, snatPort, expiresAt: now });
  }

  #forward(frame: Frame, flow: Flow): Frame | undefined {
    const { backend, snatPort } = flow;
    this.#follow(flow, frame);
    if (!backend.isLocal && snatPort === undefined) return this.#sendInTunnel(frame, backend);
    if (snatPort === undefined) {
      this.#rewrite(frame, { dstIp: backend.ip, dstPort: backend.port });
      return frame;
    }
    this.#rewrite(frame, { srcIp: this.#nodeIp, srcPort: snatPort, dstIp: backend.ip, dstPort: backend.port });
    this.#stack.redirect(frame);
    return undefined;
  }

  /** From an endpoint elsewhere: on to the client, in the Service's name. */
  #answerFromElsewhere(frame: Frame, flow: Flow): undefined {
    this.#follow(flow, frame);
    this.#rewrite(frame, { srcIp: flow.ip, srcPort: flow.port, dstIp: flow.clientIp, dstPort: flow.clientPort });
    this.#stack.redirect(frame);
  }

  #freePort({ protocol, srcPort }: Frame, backend: Backend): number | undefined {
    let port = srcPort;
    for (let attempt = 0; attempt <= SNAT_ATTEMPTS; attempt++) {
      const isUsable = port >= FIRST_SNAT_PORT;
      if (isUsable && this.#find(this.#byAnswer, keyOf(protocol, backend, { ip: this.#nodeIp, port })) === undefined)
        return port;
      port = FIRST_SNAT_PORT + this.#random.int(LAST_SNAT_PORT - FIRST_SNAT_PORT + 1);
    }
    return undefined;
  }

  // ── direct server return ───────────────────────────────────────────────────────────────────────────────────────────

  /** The datagram is for the endpoint's address; the program on its node takes it before it gets there. */
  #sendInTunnel(frame: Frame, backend: Backend): undefined {
    const { cpus, frames } = this.#stack;
    const roomBytes = this.#stack.mtuTo(backend.ip) - DSR_OVERHEAD_BYTES;
    if (frame.ipBytes() > roomBytes) {
      this.#stack.sendIcmpError(frame, ICMP_DEST_UNREACHABLE, ICMP_FRAGMENTATION_NEEDED, { mtuBytes: roomBytes });
      this.#stack.drop(frame, 'PKT_TOO_BIG');
      return;
    }
    cpus.charge(cpus.costs.vxlanEncapNs);
    const outer = frames.encapsulate(frame);
    outer.protocol = PROTOCOL_UDP;
    outer.srcIp = this.#nodeIp;
    outer.srcPort = frame.srcPort;
    outer.dstIp = backend.ip;
    outer.dstPort = DSR_PORT;
    outer.payloadBytes = DSR_HEADER_BYTES + frame.sizeBytes;
    outer.updateSize();
    frame.clearMetadata();
    this.#stack.redirect(outer);
  }

  #takeFromTunnel(outer: Frame): Frame | undefined {
    const { cpus, frames } = this.#stack;
    const podIp = outer.dstIp;
    cpus.charge(cpus.costs.vxlanDecapNs + 2 * cpus.costs.ebpfLookupNs);
    const frame = frames.decapsulate(outer);
    const { protocol, dstIp: ip, dstPort: port } = frame;
    // A node port has an entry for this node's own address.
    const service = this.#services.find(protocol, ip, port) ?? this.#services.find(protocol, this.#nodeIp, port);
    const backend = service && [...service.inside, ...(service.outside ?? [])].find((known) => known.ip === podIp);
    if (backend === undefined) {
      this.#stack.drop(frame, 'TC_INGRESS');
      return undefined;
    }
    const flow =
      this.#find(this.#byRequest, packetKey(frame)) ??
      this.#add({
        ...{ protocol, clientIp: frame.srcIp, clientPort: frame.srcPort, ip, port },
        ...{ backend: { ...backend, isLocal: true }, snatPort: undefined, expiresAt: cpus.instant },
      });
    return this.#forward(frame, flow);
  }

  // ── the table of connections ───────────────────────────────────────────────────────────────────────────────────────

  #add(flow: Flow): Flow {
    const { protocol, clientIp, clientPort, ip, port, backend, snatPort } = flow;
    const client = { ip: clientIp, port: clientPort };
    this.#byRequest.set(keyOf(protocol, client, { ip, port }), flow);
    const answersTo = snatPort === undefined ? client : { ip: this.#nodeIp, port: snatPort };
    this.#byAnswer.set(keyOf(protocol, backend, answersTo), flow);
    return flow;
  }

  #find(flows: Map<string, Flow>, key: string): Flow | undefined {
    const flow = flows.get(key);
    if (flow === undefined || flow.expiresAt > this.#stack.cpus.instant) return flow;
    flows.delete(key);
    return undefined;
  }

  #follow(flow: Flow, { protocol, tcpFlags }: Frame): void {
    const isClosing = protocol === PROTOCOL_TCP && (tcpFlags & (TCP_FIN | TCP_RST)) !== 0;
    const lifetime: Duration = isClosing ? CLOSING_LIFETIME : protocol === PROTOCOL_TCP ? TCP_LIFETIME : OTHER_LIFETIME;
    flow.expiresAt = after(this.#stack.cpus.instant, lifetime);
  }

  #rewrite(frame: Frame, fields: Partial<Pick<Frame, 'srcIp' | 'srcPort' | 'dstIp' | 'dstPort'>>): void {
    const { cpus, name } = this.#stack;
    const before = frame.journey === undefined ? '' : formatTuple(frame);
    Object.assign(frame, fields);
    const text = `${before} becomes ${formatTuple(frame)}`;
    frame.journey?.add({ at: cpus.instant, namespace: name, stage: 'ebpf', text });
  }
}

interface End {
  readonly ip: Ip;
  readonly port: number;
}

const keyOf = (protocol: number, from: End, to: End): string =>
  `${protocol} ${from.ip}:${from.port} ${to.ip}:${to.port}`;
/** Of a packet, whichever way it goes: by what it says itself. */
const packetKey = ({ protocol, srcIp, srcPort, dstIp, dstPort }: Frame): string =>
  keyOf(protocol, { ip: srcIp, port: srcPort }, { ip: dstIp, port: dstPort });
