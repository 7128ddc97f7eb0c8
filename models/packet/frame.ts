// What devices carry: one skb with its headers as fields. One monomorphic class: every field is always present, so V8
// keeps one hidden class and the whole data path reads fields at fixed offsets. Bytes exist only on demand (wire-bytes.ts).
//
// Not modelled: IP options, IPv6 extension headers but the fragment header, flow labels, Ethernet 802.1Q tags, GRO/TSO (one frame is one skb).

import type { FrameHolder } from './frame-store.ts';
import { ANY_IP, type Ip, type IpFamily } from './ip-address.ts';
import type { Journey } from './journey.ts';
import { BROADCAST_MAC, isGroupHigh, type Mac, macHigh, macLow, macOf, ZERO_MAC } from './mac.ts';

export const ETHERTYPE_IPV4 = 0x0800;
export const ETHERTYPE_ARP = 0x0806;
export const ETHERTYPE_IPV6 = 0x86dd;

export const ARP_REQUEST = 1;
export const ARP_REPLY = 2;

export const PROTOCOL_ICMP = 1;
/** An IPv4 packet in a packet (RFC 2003). */
export const PROTOCOL_IPIP = 4;
export const PROTOCOL_TCP = 6;
export const PROTOCOL_UDP = 17;
export const PROTOCOL_ICMPV6 = 58;
export const PROTOCOL_SCTP = 132;

export const TCP_FIN = 0x01;
export const TCP_SYN = 0x02;
export const TCP_RST = 0x04;
export const TCP_PSH = 0x08;
export const TCP_ACK = 0x10;
export const TCP_URG = 0x20;

export const ETHERNET_HEADER_BYTES = 14;
export const IPV4_HEADER_BYTES = 20;
export const IPV6_HEADER_BYTES = 40;
export const IPV6_FRAGMENT_HEADER_BYTES = 8;
/** No link may have a smaller one; no ICMPv6 error is longer (RFC 4443 2.4). */
export const MIN_IPV6_MTU_BYTES = 1280;
export const UDP_HEADER_BYTES = 8;
export const TCP_HEADER_BYTES = 20;
export const ICMP_HEADER_BYTES = 8;
export const VXLAN_HEADER_BYTES = 8;
const LARGEST_ICMP_ERROR_BYTES = 576;

const BROADCAST_HIGH = macHigh(BROADCAST_MAC);
const BROADCAST_LOW = macLow(BROADCAST_MAC);

/** The part of a net device that a frame remembers: where it came from and where it goes. */
export interface DeviceRef {
  readonly name: string;
  readonly index: number;
}

/**
 * What an application wrote with one call. A message is immutable once sent; it arrives at the peer's application as
 * this same record when its last byte has arrived.
 */
export interface Message {
  readonly sizeBytes: number;
  /** Chosen by the application, for example a request number. */
  readonly id: number;
  /** What it says, `sizeBytes` of it; absent where nobody reads it: then captures show filler. */
  readonly bytes?: Uint8Array;
}

/** Neighbor discovery (RFC 4861): what a solicitation, an advertisement or a redirect says beside its ICMPv6 type. */
export interface Discovery {
  readonly target: Ip;
  /** Option: the sender's own address in a solicitation, the target's in others. */
  readonly linkLayer: Mac | undefined;
  /** Flags of an advertisement: R, S and O. */
  readonly isRouter: boolean;
  readonly isSolicited: boolean;
  readonly isOverride: boolean;
}

export class Frame {
  /** Unique within a run; a copy (flooding, retransmission) has its own. */
  id = 0;
  /** Ethernet header, IP packet and payload; no preamble, padding or checksum. Kept by {@link updateSize}. */
  sizeBytes = 0;

  // MACs in two parts: see mac.ts.
  srcMacHigh = BROADCAST_HIGH;
  srcMacLow = BROADCAST_LOW;
  dstMacHigh = BROADCAST_HIGH;
  dstMacLow = BROADCAST_LOW;
  etherType = ETHERTYPE_IPV4;

  /** ARP: sender and target protocol address are `srcIp` and `dstIp`; the sender's MAC is `srcMac`. */
  arpOperation = 0;
  arpTargetMac: Mac = BROADCAST_MAC;

  family: IpFamily = 4;
  srcIp: Ip = ANY_IP;
  dstIp: Ip = ANY_IP;
  /** In IPv6 the next header after a fragment header. */
  protocol = 0;
  /** Hop limit, in IPv6. */
  ttl = 64;
  /** Traffic class, in IPv6. */
  typeOfService = 0;
  /** In IPv6 this and the two after next stand in a fragment header, and only in fragments; offset is in bytes. */
  identification = 0;
  /** IPv4 only: in IPv6 no router fragments. */
  dontFragment = true;
  moreFragments = false;
  fragmentOffset = 0;
  /** IPv6: all in one, but with a fragment header (RFC 6946). */
  isAtomicFragment = false;

  /** UDP, TCP and SCTP ports; 0 otherwise. */
  srcPort = 0;
  dstPort = 0;

  icmpType = 0;
  icmpCode = 0;
  /** Echo identifier and sequence. */
  icmpIdentifier = 0;
  icmpSequence = 0;
  /** The next-hop MTU of "fragmentation needed" and "packet too big"; where the problem is, in a "parameter problem". */
  icmpMtu = 0;
  /** The better gateway of a redirect; of ICMPv6 it is the target of {@link discovery}. */
  icmpGateway: Ip = ANY_IP;
  discovery: Discovery | undefined = undefined;
  /** The packet that an ICMP error is about: a header copy owned by this frame. */
  quoted: Frame | undefined = undefined;

  tcpFlags = 0;
  /** TCP sequence and acknowledgment numbers as signed int32, so that `(a - b) | 0` compares them. */
  sequence = 0;
  acknowledgment = 0;
  /** As in the header: before scaling. */
  window = 0;
  /** TCP options; 0 (or a scale of -1) means absent. */
  mssOption = 0;
  windowScaleOption = -1;
  timestampValue = 0;
  timestampEcho = 0;

  /**
   * Of a socket's packet: its checksum is left to the device by which it goes (CHECKSUM_PARTIAL). Devices finish it in time,
   * so it tells only in a tunnel, where NAT takes the outer checksum for unfinished, too.
   */
  isChecksumOpen = false;
  /** The checksum is wrong, for whoever looks at it: nobody does while that of `inner` is open. */
  isChecksumWrong = false;

  /**
   * The frame in this one, which owns it (FrameStore.encapsulate): VXLAN's in a UDP datagram, with its network, or IP-in-IP's,
   * whose Ethernet header is not among the bytes.
   */
  inner: Frame | undefined = undefined;
  vni = 0;

  /** A fragment that was cut in this run: the packet that it is a part of, which nobody changes. */
  whole: Frame | undefined = undefined;

  payloadBytes = 0;
  /** UDP: the datagram. TCP: the messages whose last byte this segment carries, with the offset of that byte. */
  message: Message | undefined = undefined;
  messageEnds: MessageEnd[] | undefined = undefined;

  // What the kernel keeps beside the bytes (sk_buff).
  mark = 0;
  /**
   * The hash of the flow that it was of when it was first asked for, or that its socket gave it (skb->hash, where it counts
   * ports: l4_hash); 0: none yet. Neither NAT nor a tunnel nor another namespace changes it.
   */
  flowHash = 0;
  /** It was worked out without ports, and is kept only because a tunnel over IPv6 does not forget it (sw_hash without l4_hash). */
  hasPortlessHash = false;
  /** Conntrack's handle of the connection (0: none), the frame's direction and the state that rules match on. */
  conntrackEntry = 0;
  conntrackReply = false;
  conntrackState = 0;
  /** The zone that the CT target chose for a frame that is not tracked yet. */
  conntrackZone = 0;
  /** br_netfilter: the bridge ports a bridged frame came in and goes out by. */
  physIn: DeviceRef | undefined = undefined;
  physOut: DeviceRef | undefined = undefined;
  #receivedOn: DeviceRef | undefined = undefined;
  /** Instead of that one: see {@link receiveOnOneOf}. */
  #devices: readonly unknown[] | undefined = undefined;
  #deviceNumber = 0;
  /** A packet that was put together on its way through: the fragments it came in, and will leave in (frag_max_size). */
  fragments: FragmentSizes | undefined = undefined;
  /** Set when br_netfilter already ran PREROUTING for a frame that now goes up to the IP stack. */
  preRoutingDone = false;
  /** The group that it came for, when br_netfilter has since found it one station (skb->pkt_type, which stays); else 0. */
  cameForGroup: Mac = ZERO_MAC;
  /** Set when br_netfilter found a route for an IPv6 frame's new destination, which now goes up to take it. */
  routedByBridge = false;
  /** Where it waits between two visits: a wire, then the card at its end. Nobody else may ask. */
  holder: FrameHolder | undefined = undefined;
  /** What has happened to a frame that is followed; undefined for all others. */
  journey: Journey | undefined = undefined;

  get srcMac(): Mac {
    return macOf(this.srcMacHigh, this.srcMacLow);
  }

  set srcMac(mac: Mac) {
    this.srcMacHigh = macHigh(mac);
    this.srcMacLow = macLow(mac);
  }

  get dstMac(): Mac {
    return macOf(this.dstMacHigh, this.dstMacLow);
  }

  set dstMac(mac: Mac) {
    this.dstMacHigh = macHigh(mac);
    this.dstMacLow = macLow(mac);
  }

  /** Recomputes `sizeBytes` from the headers that the protocol implies and `payloadBytes`. */
  updateSize(): void {
    this.sizeBytes = ETHERNET_HEADER_BYTES + (this.etherType === ETHERTYPE_ARP ? 28 : this.ipBytes());
  }

  /** The packet is of this IP version; call before {@link updateSize}. */
  setFamily(family: IpFamily): void {
    this.family = family;
    this.etherType = family === 6 ? ETHERTYPE_IPV6 : ETHERTYPE_IPV4;
  }

  /** The device by which this namespace's IP stack got it (skb->dev); undefined for a frame that was made here. */
  get receivedOn(): DeviceRef | undefined {
    if (this.#devices === undefined) return this.#receivedOn;
    return this.#devices[this.#deviceNumber] as DeviceRef | undefined;
  }

  set receivedOn(device: DeviceRef | undefined) {
    this.#receivedOn = device;
    this.#devices = undefined;
  }

  /**
   * {@link receivedOn} is this one of many. Few ask for it, and storing the device itself would have V8 look at the page of
   * memory in which it stands, which in a large cluster is one more wait for main memory.
   */
  receiveOnOneOf(devices: readonly unknown[], number: number): void {
    this.#devices = devices;
    this.#deviceNumber = number;
  }

  /** The group that it came for by a device, or 0 (skb->pkt_type). */
  get group(): Mac {
    if (this.cameForGroup !== ZERO_MAC) return this.cameForGroup;
    const hasCome = (this.receivedOn ?? this.physIn) !== undefined;
    return hasCome && isGroupHigh(this.dstMacHigh) ? this.dstMac : ZERO_MAC;
  }

  get isFragment(): boolean {
    return this.moreFragments || this.fragmentOffset > 0 || this.isAtomicFragment;
  }

  /** Length of the IP packet: IPv4's total length field. */
  ipBytes(): number {
    return this.ipHeaderBytes() + this.transportHeaderBytes() + this.payloadBytes;
  }

  /** IPv6: with the fragment header. */
  ipHeaderBytes(): number {
    if (this.family === 4) return IPV4_HEADER_BYTES;
    return this.isFragment ? IPV6_HEADER_BYTES + IPV6_FRAGMENT_HEADER_BYTES : IPV6_HEADER_BYTES;
  }

  /** Length of the TCP options that are set, padded to four bytes as on the wire. */
  tcpOptionBytes(): number {
    return (this.mssOption > 0 ? 4 : 0) + (this.windowScaleOption >= 0 ? 4 : 0) + (this.timestampValue !== 0 ? 12 : 0);
  }

  transportHeaderBytes(): number {
    if (this.fragmentOffset > 0) return 0;
    switch (this.protocol) {
      case PROTOCOL_TCP:
        return TCP_HEADER_BYTES + this.tcpOptionBytes();
      case PROTOCOL_UDP:
        return UDP_HEADER_BYTES;
      case PROTOCOL_ICMP:
        return ICMP_HEADER_BYTES + this.quotedBytes();
      case PROTOCOL_ICMPV6:
        return ICMP_HEADER_BYTES + discoveryBytes(this) + this.quotedIpv6Bytes();
      default:
        return 0;
    }
  }

  /** How much of the packet that it is about an ICMP error has room for, as 576 bytes are all it may have (RFC 1812). */
  quotedBytes(): number {
    if (this.quoted === undefined) return 0;
    return Math.min(this.quoted.ipBytes(), LARGEST_ICMP_ERROR_BYTES - IPV4_HEADER_BYTES - ICMP_HEADER_BYTES);
  }

  /** How much of the packet that it is about an ICMPv6 message has room for, as 1280 bytes are all it may have. */
  quotedIpv6Bytes(): number {
    const { quoted, discovery } = this;
    if (quoted === undefined) return 0;
    const room = MIN_IPV6_MTU_BYTES - IPV6_HEADER_BYTES - ICMP_HEADER_BYTES;
    if (discovery === undefined) return Math.min(quoted.ipBytes(), room);
    // A redirect quotes in an option: its 8 bytes of header and the packet are cut to a multiple of 8.
    const optionBytes = Math.min(quoted.ipBytes() + 8, room - discoveryBytes(this) + 8) & ~7;
    return optionBytes - 8;
  }

  /** Everything back to its default, as a frame fresh from the pool. */
  reset(): void {
    this.sizeBytes = 0;
    this.srcMacHigh = BROADCAST_HIGH;
    this.srcMacLow = BROADCAST_LOW;
    this.dstMacHigh = BROADCAST_HIGH;
    this.dstMacLow = BROADCAST_LOW;
    this.etherType = ETHERTYPE_IPV4;
    this.arpOperation = 0;
    this.arpTargetMac = BROADCAST_MAC;
    this.family = 4;
    this.srcIp = ANY_IP;
    this.dstIp = ANY_IP;
    this.protocol = 0;
    this.ttl = 64;
    this.typeOfService = 0;
    this.identification = 0;
    this.dontFragment = true;
    this.moreFragments = false;
    this.fragmentOffset = 0;
    this.isAtomicFragment = false;
    this.srcPort = 0;
    this.dstPort = 0;
    this.icmpType = 0;
    this.icmpCode = 0;
    this.icmpIdentifier = 0;
    this.icmpSequence = 0;
    this.icmpMtu = 0;
    this.icmpGateway = ANY_IP;
    this.discovery = undefined;
    this.quoted = undefined;
    this.tcpFlags = 0;
    this.sequence = 0;
    this.acknowledgment = 0;
    this.window = 0;
    this.mssOption = 0;
    this.windowScaleOption = -1;
    this.timestampValue = 0;
    this.timestampEcho = 0;
    this.isChecksumOpen = false;
    this.isChecksumWrong = false;
    this.inner = undefined;
    this.vni = 0;
    this.whole = undefined;
    this.payloadBytes = 0;
    this.message = undefined;
    this.messageEnds = undefined;
    this.flowHash = 0;
    this.hasPortlessHash = false;
    this.clearMetadata();
  }

  /** A device sends it that can finish the checksum of a packet, but not of one in a tunnel's datagram (hw_enc_features). */
  closeInnerChecksum(): void {
    if (this.inner !== undefined) this.inner.isChecksumOpen = false;
  }

  /** Its checksum is known to be wrong here. */
  get hasWrongChecksum(): boolean {
    return this.isChecksumWrong && this.inner?.isChecksumOpen !== true;
  }

  /** What does not survive the frame's leaving a network namespace (skb_scrub_packet). */
  clearMetadata(): void {
    this.mark = 0;
    this.conntrackEntry = 0;
    this.conntrackReply = false;
    this.conntrackState = 0;
    this.conntrackZone = 0;
    this.physIn = undefined;
    this.physOut = undefined;
    this.receivedOn = undefined;
    this.fragments = undefined;
    this.preRoutingDone = false;
    this.routedByBridge = false;
    this.cameForGroup = ZERO_MAC;
    // The journey stays: it is the observer's.
  }

  /** What the kernel keeps beside the bytes; not the journey. */
  copyMetadataFrom(other: Frame): void {
    this.mark = other.mark;
    this.flowHash = other.flowHash;
    this.hasPortlessHash = other.hasPortlessHash;
    this.conntrackEntry = other.conntrackEntry;
    this.conntrackReply = other.conntrackReply;
    this.conntrackState = other.conntrackState;
    this.conntrackZone = other.conntrackZone;
    this.physIn = other.physIn;
    this.physOut = other.physOut;
    this.receivedOn = other.receivedOn;
    this.fragments = other.fragments;
    this.preRoutingDone = other.preRoutingDone;
    this.routedByBridge = other.routedByBridge;
    this.cameForGroup = other.cameForGroup;
  }

  /** Copies headers and payload, not metadata, identity or journey. */
  copyPacketFrom(other: Frame): void {
    this.sizeBytes = other.sizeBytes;
    this.srcMacHigh = other.srcMacHigh;
    this.srcMacLow = other.srcMacLow;
    this.dstMacHigh = other.dstMacHigh;
    this.dstMacLow = other.dstMacLow;
    this.etherType = other.etherType;
    this.arpOperation = other.arpOperation;
    this.arpTargetMac = other.arpTargetMac;
    this.family = other.family;
    this.srcIp = other.srcIp;
    this.dstIp = other.dstIp;
    this.protocol = other.protocol;
    this.ttl = other.ttl;
    this.typeOfService = other.typeOfService;
    this.identification = other.identification;
    this.dontFragment = other.dontFragment;
    this.moreFragments = other.moreFragments;
    this.fragmentOffset = other.fragmentOffset;
    this.isAtomicFragment = other.isAtomicFragment;
    this.srcPort = other.srcPort;
    this.dstPort = other.dstPort;
    this.icmpType = other.icmpType;
    this.icmpCode = other.icmpCode;
    this.icmpIdentifier = other.icmpIdentifier;
    this.icmpSequence = other.icmpSequence;
    this.icmpMtu = other.icmpMtu;
    this.icmpGateway = other.icmpGateway;
    this.discovery = other.discovery;
    this.quoted = other.quoted;
    this.tcpFlags = other.tcpFlags;
    this.sequence = other.sequence;
    this.acknowledgment = other.acknowledgment;
    this.window = other.window;
    this.mssOption = other.mssOption;
    this.windowScaleOption = other.windowScaleOption;
    this.timestampValue = other.timestampValue;
    this.timestampEcho = other.timestampEcho;
    this.isChecksumOpen = other.isChecksumOpen;
    this.isChecksumWrong = other.isChecksumWrong;
    this.copyInnerFrom(other);
    this.whole = other.whole;
    this.payloadBytes = other.payloadBytes;
    this.message = other.message;
    this.messageEnds = other.messageEnds;
  }

  /** A copy of the frame in the other one, with its network: each owns its own. */
  copyInnerFrom({ inner, vni }: Frame): void {
    this.vni = vni;
    this.inner = undefined;
    if (inner === undefined) return;
    this.inner = new Frame();
    this.inner.copyPacketFrom(inner);
  }
}

/** How a packet was cut into the fragments that it arrived in. */
export interface FragmentSizes {
  /** After the IP header, in order. */
  readonly dataBytes: readonly number[];
  /** The largest fragment, with its header; 0 where that has been forgotten, so that the packet may leave whole. */
  readonly largestBytes: number;
  /** The frame is a copy, whose bytes another one has, too (skb_cloned): the pieces cannot be sent again as they are. */
  readonly isCopied?: boolean;
}

/** A message and how many payload bytes of this segment belong to it or stand before its end. */
export interface MessageEnd {
  /** Bytes from the start of the segment's payload to the end of the message. */
  readonly offset: number;
  readonly message: Message;
}

/** Target, destination of a redirect, link-layer address, and the header of a redirect's quoting option. */
function discoveryBytes({ discovery, quoted }: Frame): number {
  if (discovery === undefined) return 0;
  return 16 + (quoted === undefined ? 0 : 16 + 8) + (discovery.linkLayer === undefined ? 0 : 8);
}
