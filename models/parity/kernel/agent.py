#!/usr/bin/env python3
"""Asks the Linux kernel what becomes of a case (models/parity/case.ts).

Reads one request per line, answers each with one line, both JSON:

    {"probe": true}     {"probe": {"version": "6.18.44", "missing": []}}
    {"case": CASE}      {"outcome": OUTCOME} or {"error": {"kind": "rules" | "case", "node"?, "message"}}

A frame that is written to a packet socket is carried by the sender's own softirq through veth pairs, bridges, netfilter
and routes to the last device before the system call returns. So a step is: send, then read what the captures saw.
Nothing sleeps but wait steps and sockets that time out.

Networks are kept for the cases that follow, at most KEPT_NETWORKS; they end with this process, however it ends.
"""

import errno
import ipaddress
import json
import os
import re
import signal
import sys
import tempfile
import time

from frames import SCTP_INIT_ACK, craft
from namespace import ToolFailed
from netfilter import RulesRefused, needs_legacy_nat, private_xtables_lock
from network import Network, is_bridged, mac_bytes
from probe import probe
from settings import MachineSettings
from sockets import Sockets

KEPT_NETWORKS = 40
#: Without these sysctls nodes send as many as they like.
LIMIT_OF_ERRORS = re.compile(r"^net\.ipv[46]\.icmp[._](?:ratelimit|msgs_)")


def main():
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    signal.signal(signal.SIGINT, lambda *_: sys.exit(0))
    with tempfile.TemporaryDirectory(prefix="podwire-parity-") as directory:
        private_xtables_lock(os.path.join(directory, "xtables.lock"))
        runner = None
        try:
            for line in sys.stdin:
                request = json.loads(line)
                if "probe" in request:
                    answer = {"probe": probe()}
                else:
                    runner = runner or Runner()
                    answer = runner.answer(request["case"])
                sys.stdout.write(json.dumps(answer, separators=(",", ":")) + "\n")
                sys.stdout.flush()
        finally:
            if runner is not None:
                runner.close()


class Runner:
    def __init__(self):
        self._settings = MachineSettings().__enter__()
        #: Idle networks, the least recently used first.
        self._networks = []

    def answer(self, case):
        try:
            return {"outcome": self._run(case)}
        except Exception as failure:  # whatever a case brings about, the next one is answered
            return {"error": describe_failure(failure)}

    def _run(self, case):
        network = self._network_for(case)
        try:
            outcome = CaseRun(network, case).run()
            is_as_new = not (leaves_traces(case) or network.holds_fragments(outcome) or network.remembers_paths())
            network.settle()
        except BaseException:
            network.close()  # half of the case may be in force
            raise
        if is_as_new:
            self._networks.append(network)
        else:
            network.close()
        if len(self._networks) > KEPT_NETWORKS:
            self._networks.pop(0).close()
        return outcome

    def _network_for(self, case):
        """One of this topology that is as a new one will be when the rules are loaded."""
        nat_tables = {
            (name, key) for name, rules in case.get("rules", {}).items() for key in needs_legacy_nat(rules)
        }
        for position, network in enumerate(self._networks):
            if network.topology == case["topology"] and network.legacy_nat == nat_tables and network.is_rested():
                return self._networks.pop(position)
        return Network(case["topology"])

    def close(self):
        for network in self._networks:
            network.close()
        self._settings.__exit__()


class CaseRun:
    """One case in a network that is as new."""

    def __init__(self, network, case):
        self._network = network
        self._case = case
        self._sockets = Sockets(network.namespaces)
        self._home_cpus = os.sched_getaffinity(0)
        self._pinned = any("cpu" in step for step in case["packets"])
        self._pace_seconds = case.get("paceMs", 0) / 1000

    def run(self):
        network, case = self._network, self._case
        check_nodes(case.get("rules", {}), network)
        network.prepare(case.get("rules", {}))
        try:
            steps = [{"at": network.elapsed_ns(), **self._step(step)} for step in case["packets"]]
            return {
                "steps": steps,
                "conntrack": {name: filter.conntrack() for name, filter in network.filters.items()},
                "counters": {
                    name: counters
                    for name, filter in network.filters.items()
                    if (counters := filter.counters()) is not None
                },
            }
        finally:
            self._sockets.close_all()
            if self._pinned:
                os.sched_setaffinity(0, self._home_cpus)

    def _step(self, step):
        network = self._network
        if "waitMs" in step:
            time.sleep(step["waitMs"] / 1000)
        elif "flush" in step:
            network.flush_conntrack()
        elif "rules" in step:
            check_nodes(step["rules"], network)
            for name, rules in step["rules"].items():
                network.filters[name].load(rules)
        elif "socket" in step:
            word = self._sockets.step(step["socket"])
            return {"captures": network.drain(), "socket": word}
        else:
            return self._packet(step)
        return {"captures": network.drain()}

    def _packet(self, step):
        namespace, device = source_of(step)
        if (namespace, device) not in self._network.macs:
            raise ValueError(f'no device {device} in {namespace} to send from ("from": "{step["from"]}")')
        outcome = {}
        if step.get("local"):
            failure = self._send_locally(namespace, step)
            if failure is not None:
                outcome["socket"] = failure
        else:
            self._send(namespace, device, step, self._destination_mac(step, namespace, device))
        outcome["captures"] = captures = self._network.drain()
        if not step.get("autoreply"):
            return outcome
        arrived = arrival(captures, namespace, self._network.node_of)
        if arrived is not None:
            self._send(arrived["ns"], arrived["dev"], reply_to(arrived, step), arrived["smac"])
        return {**outcome, "reply": self._network.drain()}

    def _send_locally(self, namespace, packet):
        """What the call failed with, or None."""
        (frame,) = craft(packet, bytes(6), bytes(6))
        try:
            self._network.send_locally(namespace, frame, packet["dst"])
        except OSError as failure:
            return errno.errorcode[failure.errno]
        return None

    def _send(self, namespace, device, packet, destination_mac):
        if self._pace_seconds:
            time.sleep(self._pace_seconds)
        if self._pinned:
            cpus = sorted(self._home_cpus)
            os.sched_setaffinity(0, {cpus[packet.get("cpu", 0) % len(cpus)]})
        macs = self._network.macs
        source_mac = mac_bytes(macs[namespace, device])
        for frame in craft(packet, source_mac, mac_bytes(destination_mac)):
            self._network.send(namespace, device, frame)

    def _destination_mac(self, step, namespace, device):
        macs = self._network.macs
        given = step.get("dmac")
        if given is not None:
            return macs[tuple(given.split("/"))] if "/" in given else given
        nodes = self._network.topology["nodes"]
        own = next((node for node in nodes if node["name"] == namespace), None)
        if own is None:
            return self._mac_for_pod(step, namespace)
        if device == "eth0":
            return macs[next_hop(nodes, own, step["dst"]), "eth0"]
        pod = own["pods"][int(device.removeprefix("veth"))] if device.startswith("veth") else None
        if pod is None:
            raise ValueError(f'"from": "{step["from"]}" needs a "dmac"')
        return macs[pod["name"], "eth0"]

    def _mac_for_pod(self, step, pod_name):
        """The pod of that address on the same bridge, else the gateway."""
        macs, node_name = self._network.macs, self._network.node_of[pod_name]
        node = next(each for each in self._network.topology["nodes"] if each["name"] == node_name)
        names = [pod["name"] for pod in node["pods"]]
        if not is_bridged(node):
            return macs[node_name, f"veth{names.index(pod_name)}"]
        for pod in node["pods"]:
            if step["dst"] in (pod["ip"], pod.get("ip6")) and pod["name"] != pod_name:
                return macs[pod["name"], "eth0"]
        return macs[node_name, "cbr0"]


def source_of(step):
    namespace, _, device = step["from"].partition("/")
    return namespace, device or "eth0"


def next_hop(nodes, own, destination):
    """On the fabric: the node that has the address or its pod range, else the first other one."""
    address = ipaddress.ip_address(destination)
    others = [node for node in nodes if node is not own]
    for node in others:
        networks = [node.get("ip"), node.get("ip6"), node["podCIDR"], node.get("podCIDR6")]
        if any(address in ipaddress.ip_network(network, strict=False) for network in networks if network):
            return node["name"]
    if not others:
        raise ValueError(f'nobody is on the fabric beside {own["name"]}: give "dmac"')
    return others[0]["name"]


def arrival(captures, sender, pods):
    """The packet as it last came to another pod, else as it came back to the pod that sent it."""
    arrived = [
        frame
        for frame in captures
        if frame["dir"] == "in" and frame["dev"] == "eth0" and frame["ns"] in pods and is_answerable(frame)
    ]
    elsewhere = [frame for frame in arrived if frame["ns"] != sender]
    return (elsewhere or arrived or [None])[-1]


def is_answerable(frame):
    protocol, kind = frame.get("proto"), frame.get("type")
    return protocol in ("udp", "tcp", "sctp") or (protocol, kind) in (("icmp", 8), ("icmpv6", 128))


def reply_to(frame, step):
    """What the receiver would say: SYN gets SYN-ACK, other segments an ACK, an echo request its reply."""
    reply = {"proto": frame["proto"], "src": frame["dst"], "dst": frame["src"], "cpu": step.get("cpu", 0)}
    if frame["proto"] in ("icmp", "icmpv6"):
        reply.update(type=0 if frame["proto"] == "icmp" else 129, id=frame["id"], seqn=step.get("seqn", 1))
        return reply
    reply.update(sport=frame["dport"], dport=frame["sport"])
    if frame["proto"] == "sctp":
        reply.update(chunk=SCTP_INIT_ACK)
    if frame["proto"] == "tcp":
        data_bytes = len((step.get("payload") or "").encode()) + step.get("pad", 0)
        if "S" in frame["flags"]:
            reply.update(flags="SA", seq=500, ack=(frame["seq"] + 1) % 2**32)
        else:
            ends = frame["seq"] + data_bytes + ("F" in frame["flags"])
            reply.update(flags="A", seq=frame["ack"], ack=ends % 2**32)
    return reply


def leaves_traces(case):
    """Sockets in TIME_WAIT, what a cold network learned, and how many ICMP errors are left cannot be taken back."""
    topology = case["topology"]
    return (
        topology.get("cold", False)
        or any(LIMIT_OF_ERRORS.search(name) for node in topology["nodes"] for name in node.get("sysctls", ()))
        or any("socket" in step and step["socket"]["do"] == "close" for step in case["packets"])
    )


def check_nodes(rules, network):
    for name in rules:
        if name not in network.filters:
            raise ValueError(f"rules for {name}, which is no node; there are {', '.join(network.filters)}")


def describe_failure(failure):
    if isinstance(failure, RulesRefused):
        return {"kind": "rules", "node": failure.node, "message": f"{failure.command}: {failure}"}
    if isinstance(failure, (ToolFailed, OSError, ValueError)):
        return {"kind": "case", "message": str(failure)}
    return {"kind": "case", "message": f"{type(failure).__name__}: {failure}"}


if __name__ == "__main__":
    main()
