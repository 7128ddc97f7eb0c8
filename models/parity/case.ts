// A parity case: a small network, rules on its nodes, and packets; and what became of them. Simulator and kernel read
// the same case and answer with the same outcome, so that the two can be compared field by field.
//
// The network: nodes joined by one switch (the fabric, absent for one node), each with pods behind a bridge `cbr0` whose
// address is the first of the node's pod range, or behind routed veths (proxy ARP on 169.254.1.1). The node's side of
// pod j is `veth{j}`, the pod's side and the node's uplink are `eth0`, the VXLAN device is `vx0`.
//
// IPv6, on a node with `podCIDR6`. Everything that is sent without being asked for is off, so that both sides begin in
// silence: addresses are set `nodad`; `net.ipv6.conf.{all,default}` has accept_dad 0, accept_ra 0, autoconf 0,
// router_solicitations 0; link-local addresses are made of the MACs (addr_gen_mode 0). Nodes forward
// (`net.ipv6.conf.all.forwarding` 1), send ICMPv6 errors without limit (`net.ipv6.icmp.ratemask` 255) and have
// bridge-nf-call-ip6tables as bridge-nf-call-iptables. Pods of a bridge have their address with /64 and a default route
// by the bridge's, the first of the range. Pods of routed veths have theirs with /128 and a default route by the
// link-local address of the node's side of the veth, as Calico sets it; the node has a route to the /128, and needs
// neither a global address there nor proxy NDP. Other nodes' ranges are reached by the nodes' global addresses. Neighbor
// discovery is captured (ICMPv6 133 to 137 appear as packets); reports about multicast groups (130 to 132, 143) are not.
// A pod without a stack drops all IPv6 in raw PREROUTING but ICMPv6 135 and 136.
//
// At the start of a case all is resolved and learned: pods, nodes and gateways of one network know each other's MACs by
// permanent neighbor entries, and bridges have heard every pod and uplink. Nothing is in a `cold` topology.

export interface ParityCase {
  /** For messages and recordings. */
  readonly name?: string;
  readonly topology: Topology;
  /** By node. Nodes without an entry have no rules. */
  readonly rules?: Readonly<Record<string, NodeRules>>;
  /**
   * So long passes before each packet and each automatic reply: connlimit forgets connections at most once per jiffy,
   * and those of another CPU after two (nf_conncount.c).
   */
  readonly paceMs?: number;
  readonly packets: readonly Step[];
}

export interface Topology {
  readonly nodes: readonly ParityNode[];
  /**
   * How pod ranges of other nodes are reached; host-gw if absent. Tunnels are between the nodes' IPv4 addresses with `vxlan`,
   * between those of IPv6 with `vxlan6`, for pods of both families; with `vxlan-by-family` each family has its own tunnel over
   * itself, as flannel has it, and that of IPv6 is `vx6`.
   */
  readonly overlay?: Overlay;
  /** The fabric exists although there is one node only. */
  readonly fabric?: boolean;
  /** No neighbor is resolved and no MAC learned when the case begins. */
  readonly cold?: boolean;
}

export type Overlay = (typeof OVERLAYS)[number];
export const OVERLAYS = ['host-gw', 'vxlan', 'vxlan6', 'vxlan-by-family'] as const;

export interface ParityNode {
  readonly name: string;
  /** On the fabric, in a /24; IPv6 in a /64. */
  readonly ip?: string;
  readonly ip6?: string;
  /** A /24; the bridge has its first address. */
  readonly podCIDR: string;
  /** A /64. The node and its pods are dual stack where it is given. */
  readonly podCIDR6?: string;
  /** False: routed veths instead of a bridge. */
  readonly bridge?: boolean;
  /**
   * Routed veths in the manner of the CNI plugin ptp, without a bridge and in IPv4 only: pods have their address with the
   * length of the range, a route to its first address, and all else by that one, which the node's side of each veth has.
   */
  readonly ptp?: boolean;
  readonly fabricMtu?: number;
  /** `net.ipv4.conf.all.rp_filter`: 1. Beside forwarding on, rp_filter 0, icmp_ratelimit 0, bridge-nf-call-iptables 1. */
  readonly sysctls?: Readonly<Record<string, number | string>>;
  /** More addresses, `172.21.0.1/24`, in the order in which they are added; devices are up by then. */
  readonly addresses?: readonly { readonly address: string; readonly dev: string }[];
  /** More routes; `to` is a prefix, or `default`, of the family that `via` is of. */
  readonly routes?: readonly { readonly to: string; readonly via?: string; readonly dev: string }[];
  readonly pods: readonly ParityPod[];
}

export interface ParityPod {
  readonly name: string;
  readonly ip: string;
  readonly ip6?: string;
  readonly hairpin?: boolean;
  /** The pod's own stack answers; otherwise it resolves addresses and is silent. */
  readonly stack?: boolean;
}

export type RuleBackend = 'legacy' | 'nft' | 'nftnative';

export interface NodeRules {
  readonly backend: RuleBackend;
  /** iptables-restore text, or nft text for `nftnative`. */
  readonly text: string;
  /** ip6tables-restore text for `legacy` and `nft`. */
  readonly text6?: string;
  /** `ipset restore` text, loaded before the rules. */
  readonly ipset?: string;
}

/** What happens next: a packet unless it says otherwise. */
export type Step = PacketStep | WaitStep | FlushStep | RulesStep | SocketStep;

/** A crafted packet, sent from a pod's `eth0`, or `NAMESPACE/DEVICE`. One of SCTP is an INIT chunk. */
export interface PacketStep {
  readonly from: string;
  /**
   * The stack of the namespace `from` sends it, by a raw socket: it is routed, and passes OUTPUT. How many hops it may take
   * and whether it may be cut is for the stack to say; what the call failed with is in the step's `socket`.
   */
  readonly local?: boolean;
  readonly proto: 'udp' | 'tcp' | 'sctp' | 'icmp' | 'icmpv6';
  readonly src: string;
  readonly dst: string;
  readonly sport?: number;
  readonly dport?: number;
  /** Letters of SAFRPU; S if absent. */
  readonly flags?: string;
  readonly seq?: number;
  readonly ack?: number;
  readonly win?: number;
  /** ICMP; 8/0 (128/0 in IPv6) with identifier 7 and sequence 1 if absent. */
  readonly type?: number;
  readonly code?: number;
  readonly id?: number;
  readonly seqn?: number;
  readonly ttl?: number;
  readonly tos?: number;
  readonly ipid?: number;
  readonly df?: boolean;
  /** The 16 bits of flags and fragment offset. */
  readonly frag?: number;
  /** Payload text, and so many bytes after it. */
  readonly payload?: string;
  readonly pad?: number;
  /** Sent as fragments that fit this MTU, with the checksum of the whole. */
  readonly fragmentMtu?: number;
  /**
   * A MAC, or `NAMESPACE/DEVICE`. Otherwise, from a pod: the pod of that address on the same bridge, else the gateway;
   * from a node's `vethJ`: its pod; from a node's `eth0`: the other node that has the address or its pod range.
   */
  readonly dmac?: string;
  /**
   * Answer the packet as it last arrived at another pod, else as it came back to its sender, with addresses and ports
   * swapped: TCP with SYN by SYN-ACK (seq 500), other segments by an ACK of what they held, an echo request by its reply,
   * an SCTP INIT by INIT-ACK.
   */
  readonly autoreply?: boolean;
  /** The CPU that sends; 0 if absent. */
  readonly cpu?: number;
}

export interface WaitStep {
  readonly waitMs: number;
}

/** `conntrack -F` on every node. */
export interface FlushStep {
  readonly flush: 'conntrack';
}

/** Replaces the rules of nodes between packets: nothing of their earlier rules stays. */
export interface RulesStep {
  readonly rules: Readonly<Record<string, NodeRules>>;
}

/**
 * A real socket in a namespace. Its outcome is in the step's `socket`. TCP listeners accept and stay silent; UDP listeners
 * send every datagram back, and `connect` sends one of four bytes. A connect gives up after 300 ms if nothing else is said.
 */
export interface SocketStep {
  readonly socket:
    | {
        readonly do: 'listen';
        readonly in: string;
        readonly proto: 'tcp' | 'udp';
        readonly ip?: string;
        readonly port: number;
      }
    | {
        readonly do: 'connect';
        readonly in: string;
        readonly proto: 'tcp' | 'udp';
        readonly ip: string;
        readonly port: number;
        /** Bound to it before. */
        readonly sport?: number;
        /** 300 if absent. */
        readonly timeoutMs?: number;
      }
    | { readonly do: 'close'; readonly in: string };
}

// ── what became of it ────────────────────────────────────────────────────────────────────────────────────────────────

export interface Outcome {
  /** One per step of the case. */
  readonly steps: readonly StepOutcome[];
  /** By node: the lines of `conntrack -L -o extended`. */
  readonly conntrack: Readonly<Record<string, readonly string[]>>;
  /** By node with rules: `iptables-save -c`, with `ip6tables-save -c` after it; `nft -j list ruleset` for nftnative. */
  readonly counters: Readonly<Record<string, string>>;
}

export interface StepOutcome {
  /** Kernel only: when the step began, in nanoseconds since the case did. */
  readonly at?: number;
  readonly captures?: readonly Capture[];
  /** What the automatic reply caused. */
  readonly reply?: readonly Capture[];
  /**
   * `listening`, `closed`, `connected`; of UDP `answered`, or `sent` if no answer came; or what the system call failed
   * with: `ECONNREFUSED`, `ETIMEDOUT`, … Of a `local` packet only the latter.
   */
  readonly socket?: string;
}

/**
 * A frame as seen at one end of a veth or at an uplink, in the order in which frames passed. A crafted frame is not seen
 * where it leaves: packet sockets do not see what they send.
 */
export interface Capture extends Partial<CapturedPacket> {
  readonly ns: string;
  readonly dev: string;
  readonly dir: 'in' | 'out';
  readonly smac: string;
  readonly dmac: string;
  /** ARP: 1 request, 2 reply. */
  readonly arp?: number;
  readonly sender?: string;
  /** The address asked for: of ARP, and of neighbor discovery (ICMPv6 135, 136, 137). */
  readonly target?: string;
  /** Kernel only: nanoseconds. */
  readonly t?: number;
}

export interface CapturedPacket {
  readonly src: string;
  readonly dst: string;
  readonly ttl: number;
  /** Total length of the IP packet. */
  readonly len: number;
  /** The 16 bits of flags and fragment offset, where more than DF is set; in IPv6 those of a fragment header. */
  readonly frag?: number;
  /** `udp`, `tcp`, `sctp`, `icmp`, `icmpv6`, or the number; in IPv6 the first that is not an extension header. */
  readonly proto: string | number;
  readonly sport?: number;
  readonly dport?: number;
  readonly flags?: string;
  readonly seq?: number;
  readonly ack?: number;
  readonly type?: number;
  readonly code?: number;
  readonly id?: number;
  /** Of an ICMP error: the lower 16 bits of the second word (MTU, in IPv6 also the pointer of a parameter problem). */
  readonly mtu?: number;
  /** The header that an ICMP error quotes. */
  readonly quoted?: CapturedPacket;
  /** VXLAN. */
  readonly vni?: number;
  readonly inner?: Omit<Capture, 'ns' | 'dev' | 'dir'>;
}
