"""The network of a case, built of real namespaces, veth pairs and bridges, and kept for the cases that follow.

At the start of every case all is resolved and learned: neighbors of nodes and pods are permanent entries, bridges have
heard every device. With `"cold": true` in the topology nothing is, and the network is used once.

MAC addresses are made of positions: 02:00:00:NODE:KIND:NUMBER.
"""

import ipaddress
import re
import socket
import time

from capture import Capture
from frames import learning_frame
from namespace import Namespace, read_sysctl, set_up, write_sysctl
from netfilter import NodeFilter
from netlink import NETLINK_NETFILTER, NETLINK_ROUTE, Netlink, flush_conntrack, forget_learned_neighbors, link_is_ready

READY_WITHIN_SECONDS = 10
#: Field of /proc/net/rt6_stats: how many routes have exceptions of their own (fib_rt_cache).
RT6_STATS_CACHE = 4
ETHERNET_BYTES = 14

ROUTED_GATEWAY, ROUTED_GATEWAY6 = "169.254.1.1", "fe80::ecee:eeff:feee:eeee"
ROUTED_MAC = "ee:ee:ee:ee:ee:ee"
KIND_NODE, KIND_POD, KIND_VETH = 0, 1, 2
NUMBER_CBR0, NUMBER_ETH0, NUMBER_VX0, NUMBER_VX6 = 1, 2, 3, 4

BRIDGE_NF, BRIDGE_NF6 = "net.bridge.bridge-nf-call-iptables", "net.bridge.bridge-nf-call-ip6tables"
NODE_SYSCTLS = {
    "net.ipv4.ip_forward": 1,
    "net.ipv4.conf.all.rp_filter": 0,
    "net.ipv4.conf.default.rp_filter": 0,
    "net.ipv4.icmp_ratelimit": 0,
    "net.ipv4.icmp_msgs_burst": 1_000_000,
    # The simulator tracks SCTP without its states: entries stay as long as those of protocols that have none.
    "net.netfilter.nf_conntrack_sctp_timeout_cookie_wait": 600,
    BRIDGE_NF: 1,
}
#: A type that is no error: errors without limit. With a ratelimit of 0 they would keep redirects away, by the jiffy.
NODE_SYSCTLS6 = {"net.ipv6.conf.all.forwarding": 1, "net.ipv6.icmp.ratemask": 255}
FABRIC_SYSCTLS = {BRIDGE_NF: 0, BRIDGE_NF6: 0}
POD_SYSCTLS = {"net.ipv4.icmp_ratelimit": 0, "net.ipv4.icmp_msgs_burst": 1_000_000}
#: Hosts say what groups they are in within a tick or two, and again after a random part of this interval; rules would
#: count the reports.
NEVER_AGAIN_MS = 1 << 30
FIRST_REPORTS_SECONDS = 0.03
#: Redirects to one peer draw on a bucket that takes six seconds to fill (inet_peer_xrlim_allow), whatever the settings: one
#: costs a second (ip6_forward).
REST_SECONDS = 6.1
#: By overlay: device, field of the nodes' addresses between which it is, and the pods' ranges that are reached by it.
TUNNELS = {
    "vxlan": (("vx0", "ip", ("podCIDR", "podCIDR6")),),
    "vxlan6": (("vx0", "ip6", ("podCIDR", "podCIDR6")),),
    "vxlan-by-family": (("vx0", "ip", ("podCIDR",)), ("vx6", "ip6", ("podCIDR6",))),
}
#: Neighbor discovery still gets through, so that others can resolve a silent pod.
SILENT = "*raw\n:PREROUTING ACCEPT [0:0]\n{exceptions}-A PREROUTING -j DROP\nCOMMIT\n"
NEIGHBOR_DISCOVERY = "".join(
    f"-A PREROUTING -p ipv6-icmp -m icmp6 --icmpv6-type {kind} -j ACCEPT\n" for kind in (135, 136)
)


def gateway_of(network):
    return str(next(ipaddress.ip_network(network, strict=False).hosts()))


def gateway6_of(network):
    return str(ipaddress.ip_network(network, strict=False)[1])


def base_of(network):
    return str(ipaddress.ip_network(network, strict=False)[0])


def is_bridged(node):
    return node.get("bridge", True) and not node.get("ptp", False)


def mac(node, kind, number):
    return f"02:00:00:{node + 1:02x}:{kind:02x}:{number:02x}"


class Network:
    """The namespaces of one topology."""

    def __init__(self, topology):
        self.topology = topology
        self.namespaces = {}
        self.filters = {}
        #: Namespace name of a node by the pod's name.
        self.node_of = {}
        #: MAC text by (namespace, device).
        self.macs = {}
        #: Bridges are taught by frames from here.
        self._speakers = []
        self._captures = []
        #: Raw sockets by (namespace, family).
        self._raw_sockets = {}
        self._routes = {}
        self._conntracks = {}
        self._began_ns = 0
        self._rested_at = 0.0
        try:
            self._build()
        except BaseException:
            self.close()
            raise

    # ── between cases ────────────────────────────────────────────────────────────────────────────────────────────────

    def prepare(self, rules_by_node):
        """Everything as after building, and the rules of a case in force."""
        for name in self.filters:
            self.filters[name].replace(rules_by_node.get(name))
        for namespace in self.namespaces.values():
            with namespace:
                write_sysctl("net.ipv4.route.flush", 1)  # learned path MTUs and redirects
                if self._dual_stack:
                    write_sysctl("net.ipv6.route.flush", 1)
        if not self.topology.get("cold"):
            for capture, device in self._speakers:
                capture.send(device, learning_frame(mac_bytes(self.macs[capture.namespace, device])))
        for netfilter in self._conntracks.values():
            flush_conntrack(netfilter)
        self.drain()
        self._began_ns = time.time_ns()

    def settle(self):
        """After a case. Packets that wait for a neighbor end here, and make ICMP errors: none may be left for later."""
        for route in self._routes.values():
            forget_learned_neighbors(route)
        if self._dual_stack:
            self._rested_at = time.monotonic() + REST_SECONDS

    def is_rested(self):
        """Hosts may send as much ICMPv6 as new ones, or nobody sends any."""
        return time.monotonic() >= self._rested_at

    @property
    def legacy_nat(self):
        """Which legacy nat tables there are, by node and family (netfilter.py)."""
        return {(name, key) for name, filter in self.filters.items() for key in filter.legacy_nat}

    def holds_fragments(self, outcome):
        """Some wait for the rest of their datagram: they would be joined to later ones, or reported when time is up."""
        captures = (frame for step in outcome["steps"] for key in ("captures", "reply") for frame in step.get(key, ()))
        fragments = [frame for frame in captures if "frag" in frame]
        if any(":" in frame["src"] for frame in fragments):
            return True  # nobody tells what nf_conntrack_reasm holds
        return bool(fragments) and any(map(waiting_fragments, self.namespaces.values()))

    def remembers_paths(self):
        """What routers said of paths of IPv6 outlives route.flush, until it expires (rt6_age_exceptions)."""
        return self._dual_stack and any(map(remembered_paths, self.namespaces.values()))

    def flush_conntrack(self):
        for netfilter in self._conntracks.values():
            flush_conntrack(netfilter)

    def drain(self):
        """Every frame since the last time, at all places, in the order in which they passed."""
        frames = []
        for capture in self._captures:
            capture.drain(frames)
        frames.sort(key=lambda frame: frame["t"])
        for frame in frames:
            frame["t"] -= self._began_ns
        return frames

    def elapsed_ns(self):
        """Since the case began."""
        return time.time_ns() - self._began_ns

    def send(self, namespace, device, frame):
        capture = next(each for each in self._captures if each.namespace == namespace)
        capture.send(device, frame)

    def send_locally(self, namespace, frame, destination):
        """As a process of the namespace, which writes the IP header itself. Raises what the call fails with."""
        family = socket.AF_INET6 if ":" in destination else socket.AF_INET
        if (namespace, family) not in self._raw_sockets:
            with self.namespaces[namespace]:
                raw = socket.socket(family, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.IPPROTO_RAW)
            self._raw_sockets[namespace, family] = raw
        self._raw_sockets[namespace, family].sendto(frame[ETHERNET_BYTES:], (destination, 0))

    def close(self):
        for each in (*self._captures, *self._raw_sockets.values(), *self._routes.values(), *self._conntracks.values(), *self.namespaces.values()):
            each.close()

    # ── building ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def _build(self):
        nodes = self.topology["nodes"]
        self._dual_stack = any(node.get("podCIDR6") for node in nodes)
        self._cold = self.topology.get("cold", False)
        fabric = None
        if len(nodes) > 1 or self.topology.get("fabric"):
            fabric = self._namespace("fab", ipv6=False)
            fabric.set_sysctls(FABRIC_SYSCTLS)
            fabric.ip(["link add fab0 type bridge forward_delay 0 mcast_snooping 0", "link set fab0 up"])
        for position, node in enumerate(nodes):
            self._build_node(position, node, fabric)
        if fabric is not None:
            fabric.ip([f"link set f{position} {what}" for position in range(len(nodes)) for what in ("master fab0", "up")])
        for node in nodes:
            self._add_more(node, [other for other in nodes if other is not node] if fabric is not None else [])
        self._open_sockets()
        self._wait_until_ready()

    def _namespace(self, name, ipv6):
        if name in self.namespaces:
            raise ValueError(f"two namespaces are called {name}")
        namespace = self.namespaces[name] = Namespace(name)
        settings = {f"net.ipv6.conf.{scope}.disable_ipv6": 0 if ipv6 else 1 for scope in ("all", "default")}
        if ipv6:
            for scope in ("all", "default"):
                settings[f"net.ipv6.conf.{scope}.accept_dad"] = 0
                settings[f"net.ipv6.conf.{scope}.accept_ra"] = 0
                settings[f"net.ipv6.conf.{scope}.autoconf"] = 0
                settings[f"net.ipv6.conf.{scope}.router_solicitations"] = 0
                settings[f"net.ipv6.conf.{scope}.mldv2_unsolicited_report_interval"] = NEVER_AGAIN_MS
        namespace.set_sysctls(settings)
        with namespace:
            set_up("lo")
        return namespace

    def _build_node(self, position, node, fabric):
        name, ipv6, bridged = node["name"], node.get("podCIDR6") is not None, is_bridged(node)
        host = self._namespace(name, ipv6)
        host.set_sysctls({**NODE_SYSCTLS, **(NODE_SYSCTLS6 if ipv6 else {})})
        sysctls = {BRIDGE_NF6: node.get("sysctls", {}).get(BRIDGE_NF, 1), **node.get("sysctls", {})}
        host.set_sysctls({key: value for key, value in sysctls.items() if exists(host, key)})
        self.filters[name] = NodeFilter(host)
        lines = []
        if bridged:
            self.macs[name, "cbr0"] = mac(position, KIND_NODE, NUMBER_CBR0)
            lines += [
                f"link add cbr0 address {self.macs[name, 'cbr0']} type bridge forward_delay 0 mcast_snooping 0",
                f"addr add {gateway_of(node['podCIDR'])}/{prefix_length(node['podCIDR'])} dev cbr0",
                "link set cbr0 up",
            ]
            if ipv6:
                gateway6, length6 = gateway6_of(node["podCIDR6"]), prefix_length(node["podCIDR6"])
                lines.append(f"addr add {gateway6}/{length6} dev cbr0 nodad")
        if fabric is not None:
            lines += self._uplink(position, node, fabric)
        for number, pod in enumerate(node["pods"]):
            lines += self._pod_link(position, node, number, pod)
        if fabric is not None:
            for tunnel in self._tunnels():
                lines += self._tunnel_link(position, node, tunnel)
        host.ip(lines)
        for number, pod in enumerate(node["pods"]):
            self._build_pod(position, node, number, pod)
        hairpin_pods = [number for number, pod in enumerate(node["pods"]) if pod.get("hairpin")]
        hairpins = [f"link set dev veth{number} hairpin on" for number in hairpin_pods]
        if hairpins and bridged:
            host.run(["bridge", "-batch", "-"], "\n".join(hairpins) + "\n")
        if not bridged and not node.get("ptp"):
            host.set_sysctls({f"net.ipv4.conf.veth{number}.proxy_arp": 1 for number in range(len(node["pods"]))})
            host.set_sysctls({f"net.ipv4.neigh.veth{number}.proxy_delay": 0 for number in range(len(node["pods"]))})
        host.set_sysctls(sysctls)  # those of devices did not exist before

    def _uplink(self, position, node, fabric):
        name, mtu = node["name"], node.get("fabricMtu", 1500)
        address = self.macs[name, "eth0"] = mac(position, KIND_NODE, NUMBER_ETH0)
        lines = [
            f"link add eth0 address {address} mtu {mtu} type veth peer name f{position} mtu {mtu} netns {fabric.path}",
            f"addr add {node['ip']}/24 dev eth0",
            "link set eth0 up",
        ]
        if node.get("ip6"):
            lines.append(f"addr add {node['ip6']}/64 dev eth0 nodad")
        return lines

    def _pod_link(self, position, node, number, pod):
        name, veth = node["name"], f"veth{number}"
        inside = self._namespace(pod["name"], pod.get("ip6") is not None)
        bridged, ptp = is_bridged(node), node.get("ptp", False)
        self.node_of[pod["name"]] = name
        self.macs[name, veth] = mac(position, KIND_VETH, number + 1) if bridged or ptp else ROUTED_MAC
        address = self.macs[pod["name"], "eth0"] = mac(position, KIND_POD, number + 1)
        peer = f"peer name eth0 address {address} netns {inside.path}"
        lines = [f"link add {veth} address {self.macs[name, veth]} type veth {peer}"]
        lines += [f"link set {veth} master cbr0"] if bridged else []
        lines.append(f"link set {veth} up")
        if ptp:
            lines.append(f"addr add {gateway_of(node['podCIDR'])}/32 dev {veth}")
        if not bridged:
            lines.append(f"route add {pod['ip']}/32 dev {veth}")
            if pod.get("ip6"):
                lines.append(f"route add {pod['ip6']}/128 dev {veth}")
        if not self._cold:
            device = "cbr0" if bridged else veth
            lines += [f"neigh replace {ip} lladdr {address} dev {device} nud permanent" for ip in addresses_of(pod)]
        return lines

    def _build_pod(self, position, node, number, pod):
        inside, bridged, ptp = self.namespaces[pod["name"]], is_bridged(node), node.get("ptp", False)
        inside.set_sysctls(POD_SYSCTLS)
        mask, mask6 = (prefix_length(node["podCIDR"]), 64) if bridged or ptp else (32, 128)
        lines = [f"addr add {pod['ip']}/{mask} dev eth0"]
        if pod.get("ip6"):
            lines.append(f"addr add {pod['ip6']}/{mask6} dev eth0 nodad")
        lines.append("link set eth0 up")
        gateway = gateway_of(node["podCIDR"]) if bridged or ptp else ROUTED_GATEWAY
        if ptp:
            network, source = node["podCIDR"], pod["ip"]
            lines.append(f"route del {network} dev eth0")
            lines.append(f"route add {gateway} dev eth0 scope link src {source}")
            lines.append(f"route add {network} via {gateway} dev eth0 src {source}")
        elif not bridged:
            lines.append(f"route add {ROUTED_GATEWAY} dev eth0")
        lines.append(f"route add default via {gateway}")
        gateway_mac = self.macs[node["name"], "cbr0" if bridged else f"veth{number}"]
        neighbors = [(gateway, gateway_mac)]
        if pod.get("ip6"):
            gateway6 = gateway6_of(node["podCIDR6"]) if bridged else ROUTED_GATEWAY6
            lines.append(f"route add default via {gateway6} dev eth0")
            neighbors.append((gateway6, gateway_mac))
        if bridged:
            for sibling_number, sibling in enumerate(node["pods"]):
                if sibling is not pod:
                    neighbors += [(ip, mac(position, KIND_POD, sibling_number + 1)) for ip in addresses_of(sibling)]
        if not self._cold:
            lines += [f"neigh replace {ip} lladdr {address} dev eth0 nud permanent" for ip, address in neighbors]
        inside.ip(lines)
        if not pod.get("stack"):
            inside.run(["iptables-legacy-restore"], SILENT.format(exceptions=""))
            if pod.get("ip6"):
                inside.run(["ip6tables-legacy-restore"], SILENT.format(exceptions=NEIGHBOR_DISCOVERY))

    def _tunnels(self):
        return TUNNELS.get(self.topology.get("overlay"), ())

    def _tunnel_link(self, position, node, tunnel):
        device, underlay, ranges = tunnel
        number = NUMBER_VX6 if device == "vx6" else NUMBER_VX0
        address = self.macs[node["name"], device] = mac(position, KIND_NODE, number)
        lines = [
            f"link add {device} address {address} type vxlan id 1 local {node[underlay]} dev eth0 dstport 8472 nolearning",
            f"link set {device} up",
        ]
        if "podCIDR" in ranges:
            lines.append(f"addr add {base_of(node['podCIDR'])}/32 dev {device}")
        if "podCIDR6" in ranges and node.get("podCIDR6"):
            lines.append(f"addr add {base_of(node['podCIDR6'])}/128 dev {device} nodad")
        return lines

    def _add_more(self, node, others):
        """What it takes that the devices of all nodes are there."""
        host = self.namespaces[node["name"]]
        lines = [f"addr add {each['address']} dev {each['dev']}" for each in node.get("addresses", ())]
        for route in node.get("routes", ()):
            via = f" via {route['via']}" if "via" in route else ""
            lines.append(f"route add {route['to']}{via} dev {route['dev']}")
        for other in others:
            lines += self._route(node, other)
        host.ip(lines)
        entries = [self._forwarding_entry(tunnel, other) for other in others for tunnel in self._tunnels()]
        if entries:
            host.run(["bridge", "-batch", "-"], "\n".join(entries) + "\n")

    def _forwarding_entry(self, tunnel, other):
        device, underlay, _ = tunnel
        return f"fdb append {self.macs[other['name'], device]} dev {device} dst {other[underlay]}"

    def _route(self, node, other):
        dual_stack = node.get("podCIDR6") and other.get("podCIDR6")
        uplink = self.macs[other["name"], "eth0"]
        lines = []
        for device, _, ranges in self._tunnels():
            tunnel = self.macs[other["name"], device]
            for network in (other[key] for key in ranges if key == "podCIDR" or dual_stack):
                hop = base_of(network)
                lines.append(f"neigh replace {hop} lladdr {tunnel} dev {device} nud permanent")
                lines.append(f"route add {network} via {hop} dev {device} onlink")
        if not self._tunnels():
            lines.append(f"route add {other['podCIDR']} via {other['ip']}")
            if dual_stack and other.get("ip6"):
                lines.append(f"route add {other['podCIDR6']} via {other['ip6']} dev eth0")
        if not self._cold:
            ips = [other["ip"], *([other["ip6"]] if node.get("ip6") and other.get("ip6") else [])]
            lines += [f"neigh replace {ip} lladdr {uplink} dev eth0 nud permanent" for ip in ips]
        return lines

    def _open_sockets(self):
        for node in self.topology["nodes"]:
            veths = [f"veth{number}" for number in range(len(node["pods"]))]
            uplinks = ["eth0"] if (node["name"], "eth0") in self.macs else []
            self._open_capture(node["name"], uplinks + veths, uplinks)
            with self.namespaces[node["name"]]:
                self._conntracks[node["name"]] = Netlink(NETLINK_NETFILTER)
            for pod in node["pods"]:
                self._open_capture(pod["name"], ["eth0"], ["eth0"])

    def _open_capture(self, name, devices, speakers):
        with self.namespaces[name]:
            capture = Capture(name, devices)
            self._routes[name] = Netlink(NETLINK_ROUTE)
        self._captures.append(capture)
        self._speakers += [(capture, device) for device in speakers]

    def _wait_until_ready(self):
        """Carriers come up in deferred work; a frame sent before a bridge port forwards vanishes."""
        deadline = time.monotonic() + READY_WITHIN_SECONDS
        while waiting := [name for name in self.namespaces if not self._is_ready(name)]:
            if time.monotonic() > deadline:
                raise TimeoutError(f"links of {', '.join(waiting)} did not come up in {READY_WITHIN_SECONDS} s")
            time.sleep(0.002)
        if self._dual_stack:
            time.sleep(FIRST_REPORTS_SECONDS)

    def _is_ready(self, name):
        with self.namespaces[name]:
            route = self._routes.get(name) or Netlink(NETLINK_ROUTE)
            ready = all(link_is_ready(route, index) for index, _ in socket.if_nameindex())
            if name not in self._routes:
                route.close()
            return ready and not has_tentative_addresses()


def waiting_fragments(namespace):
    with namespace, open("/proc/net/sockstat", encoding="ascii") as file:
        return int(re.search(r"^FRAG: inuse (\d+)", file.read(), re.MULTILINE).group(1))


def remembered_paths(namespace):
    with namespace:
        if read_sysctl("net.ipv6.conf.all.disable_ipv6").strip() == "1":
            return 0
        write_sysctl("net.ipv6.route.flush", 1)
        with open("/proc/net/rt6_stats", encoding="ascii") as file:
            return int(file.read().split()[RT6_STATS_CACHE], 16)


def addresses_of(pod):
    return [pod["ip"], *([pod["ip6"]] if pod.get("ip6") else [])]


def prefix_length(network):
    return network.split("/")[1]


def mac_bytes(text):
    return bytes.fromhex(text.replace(":", ""))


def exists(namespace, sysctl):
    with namespace:
        try:
            read_sysctl(sysctl)
        except FileNotFoundError:
            return False
        except OSError:
            return True  # write-only
        return True


def has_tentative_addresses():
    with open("/proc/net/if_inet6", encoding="ascii") as file:
        return any(int(line.split()[4], 16) & 0x40 for line in file)
