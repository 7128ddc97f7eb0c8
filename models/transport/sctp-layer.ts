// SCTP of one network namespace: connect, listen, and which association a packet is for. A server keeps nothing of an INIT:
// what it will need is in the cookie. What is for no association is answered as RFC 9260 8.4 says.
//
// Not modelled: what ICMP errors tell an association, checksums, a cookie's signature (peers here forge none).

import type { RandomStream } from '../../engine/random.ts';
import type { ProtocolHandler } from '../ip/stack.ts';
import { type Frame, PROTOCOL_SCTP } from '../packet/frame.ts';
import { ANY_IP, formatSocketAddress, type IpFamily } from '../packet/ip-address.ts';
import { EphemeralPorts } from './ephemeral-ports.ts';
import { SctpAssociation, type SctpHandlers } from './sctp-association.ts';
import { isSctpPacket, type SctpChunk, type SctpPacket, sctpPacket } from './sctp-packet.ts';
import { type BoundSocket, type ConnectedSocket, ConnectionTable, PortTable } from './socket-table.ts';
import type { SocketAddress, TransportStack } from './transport-stack.ts';

export interface SctpListener extends BoundSocket {
  readonly protocol: 'SCTP';
  /** No new associations; those that there are go on. */
  close(): void;
}

interface Listening extends SctpListener {
  readonly cpu: number;
  readonly handlers: SctpHandlers;
}

interface Arrival {
  readonly ends: ConnectedSocket;
  readonly packet: SctpPacket;
}

export class SctpLayer implements ProtocolHandler {
  readonly stack: TransportStack;
  readonly #random: RandomStream;
  readonly #ports: EphemeralPorts;
  readonly #associations = new ConnectionTable<SctpAssociation>();
  readonly #listeners = new PortTable<Listening>();

  constructor(stack: TransportStack, random: RandomStream) {
    this.stack = stack;
    this.#random = random;
    this.#ports = new EphemeralPorts(random);
    stack.register(PROTOCOL_SCTP, this);
  }

  get associations(): readonly SctpAssociation[] {
    return this.#associations.all();
  }

  connect({ to, cpu }: { readonly to: SocketAddress; readonly cpu: number }, handlers: SctpHandlers): SctpAssociation {
    const { family = 4, ip: remoteIp, port: remotePort } = to;
    const localIp = this.stack.sourceFor(remoteIp, family);
    const from = localIp ?? ANY_IP;
    const isFree = (port: number): boolean =>
      !this.#listeners.has(port) && this.#associations.find(family, from, port, remoteIp, remotePort) === undefined;
    const localPort = this.#ports.forConnect(from, to, isFree);
    const ends = { family, localIp: from, localPort: localPort ?? 0, remoteIp, remotePort };
    const association = new SctpAssociation(this, { ...ends, cpu, random: this.#random }, handlers);
    if (localIp === undefined || localPort === undefined) {
      association.fail(localIp === undefined ? 'network unreachable' : 'no free port');
      return association;
    }
    this.#associations.add(association);
    this.stack.cpus.submit(cpu, () => association.begin(), undefined);
    return association;
  }

  /** Throws if the port is taken. */
  listen(
    { family = 4, port, cpu }: { readonly family?: IpFamily; readonly port: number; readonly cpu: number },
    handlers: SctpHandlers,
  ): SctpListener {
    const bound = { family, isIpv6Only: false, localIp: ANY_IP, localPort: port };
    if (!this.#listeners.isFree(bound))
      throw new Error(
        `listen on ${formatSocketAddress(ANY_IP, port, family)} in ${this.stack.name}: address already in use`,
      );
    const listener: Listening = {
      ...bound,
      ...{ protocol: 'SCTP', cpu, handlers },
      close: () => this.#listeners.delete(listener),
    };
    this.#listeners.add(listener);
    return listener;
  }

  /** For associations. */
  remove(association: SctpAssociation): void {
    this.#associations.delete(association);
  }

  /** For associations, in a visit. */
  transmit(ends: ConnectedSocket, verificationTag: number, chunks: readonly SctpChunk[]): void {
    const { family, localIp, localPort, remoteIp, remotePort } = ends;
    const packet = sctpPacket(verificationTag, chunks);
    const frame = this.stack.frames.allocate();
    if (family === 6) frame.setFamily(6);
    frame.protocol = PROTOCOL_SCTP;
    frame.srcIp = localIp;
    frame.srcPort = localPort;
    frame.dstIp = remoteIp;
    frame.dstPort = remotePort;
    frame.payloadBytes = packet.sizeBytes;
    frame.message = packet;
    frame.updateSize();
    frame.journey?.add({
      ...{ at: this.stack.cpus.instant, namespace: this.stack.name, stage: 'socket' },
      text: `sent: ${namesOf(packet)}`,
    });
    this.stack.send(frame); // what cannot be sent is lost, and comes again
  }

  /** It may answer a packet that is being sent here: looked at in a visit of its own. */
  receive(frame: Frame): void {
    const { cpus, frames } = this.stack;
    const { message: packet, family, dstIp, dstPort, srcIp, srcPort } = frame;
    if (!isSctpPacket(packet)) return this.stack.drop(frame, 'NO_SOCKET'); // no stack has made it
    cpus.charge(cpus.costs.localDeliveryNs);
    const ends = { family, localIp: dstIp, localPort: dstPort, remoteIp: srcIp, remotePort: srcPort };
    frame.journey?.add({
      ...{ at: cpus.instant, namespace: this.stack.name, stage: 'socket' },
      text: `received: ${namesOf(packet)}`,
    });
    frames.deliver(frame);
    const arrival: Arrival = { ends, packet };
    cpus.submit(cpus.current, this.#onArrival, arrival);
  }

  icmpError(): void {}

  readonly #onArrival = ({ ends, packet }: Arrival): void => {
    const { family, localIp, localPort, remoteIp, remotePort } = ends;
    const association = this.#associations.find(family, localIp, localPort, remoteIp, remotePort);
    if (association?.accepts(packet) === true) return association.receive(packet);
    if (association === undefined) this.#receiveUnconnected(ends, packet);
  };

  #receiveUnconnected(ends: ConnectedSocket, { chunks, verificationTag }: SctpPacket): void {
    const listener = this.#listeners.find(ends.family, ends.localIp, ends.localPort);
    const [first] = chunks;
    switch (first?.type) {
      case 'INIT':
        if (listener === undefined) return this.transmit(ends, first.tag, [{ type: 'ABORT', isReflected: false }]);
        return this.#answerInit(ends, first);
      case 'COOKIE ECHO':
        if (listener === undefined)
          return this.transmit(ends, first.cookie.peerTag, [{ type: 'ABORT', isReflected: false }]);
        return this.#accept(listener, ends, chunks);
      case 'SHUTDOWN ACK': // the last packet of a shutdown was lost
        return this.transmit(ends, verificationTag, [{ type: 'SHUTDOWN COMPLETE', isReflected: true }]);
      case 'DATA':
      case 'SHUTDOWN':
      case 'SACK':
        return this.transmit(ends, verificationTag, [{ type: 'ABORT', isReflected: true }]);
      default:
    }
  }

  #answerInit(ends: ConnectedSocket, { tag, tsn }: { readonly tag: number; readonly tsn: number }): void {
    const cookie = { ownTag: this.#random.bits31() + 1, ownTsn: this.#random.bits31(), peerTag: tag, peerTsn: tsn };
    this.transmit(ends, tag, [{ type: 'INIT ACK', tag: cookie.ownTag, tsn: cookie.ownTsn, cookie }]);
  }

  #accept(listener: Listening, ends: ConnectedSocket, chunks: readonly SctpChunk[]): void {
    const [echo, ...others] = chunks;
    if (echo?.type !== 'COOKIE ECHO') return;
    const { cpu, handlers } = listener;
    const options = { ...ends, cpu, random: this.#random, cookie: echo.cookie };
    const association = new SctpAssociation(this, options, handlers);
    this.#associations.add(association);
    this.transmit(ends, echo.cookie.peerTag, [{ type: 'COOKIE ACK' }]);
    if (handlers.onConnected !== undefined) this.stack.cpus.schedule(handlers.onConnected, association);
    association.receive(sctpPacket(echo.cookie.ownTag, others));
  }
}

const namesOf = ({ chunks }: SctpPacket): string => chunks.map(({ type }) => type).join(', ');
