"""What probe.c does, for machines without a C compiler.

Python takes microseconds for what C does in nanoseconds, and disturbs the caches; its figures are good for ratios only.
Commands and answers are those of probe.c.
"""

import ctypes
import os
import socket
import struct
import sys
from time import perf_counter_ns as now

FLOWS_PER_ADDRESS = 60000
FIRST_PORT, PORTS = 20000, 40000
MOST_LOST, PATIENCE = 5, struct.pack("ll", 0, 200_000)
NETLINK_NETFILTER, CT_DELETE, NLM_F_REQUEST, NLM_F_ACK = 12, 1 << 8 | 2, 1, 4
SOL_PACKET, PACKET_QDISC_BYPASS, SO_SNDBUFFORCE = 263, 20, 32

libc = ctypes.CDLL(None, use_errno=True)
paths = {}


def enter(ns):
    with open(f"/var/run/netns/{ns}") as file:
        if libc.setns(file.fileno(), 0x40000000):  # CLONE_NEWNET
            raise OSError(f"cannot enter network namespace {ns}: {os.strerror(ctypes.get_errno())}")


def middle_mean(samples):
    samples.sort()
    quarter = len(samples) // 4
    middle = samples[quarter : len(samples) - quarter]
    return sum(middle) / len(middle)


def answer(samples):
    return [middle_mean(samples), samples[len(samples) // 2]]


def ip_number(text):
    return struct.unpack("!I", socket.inet_aton(text))[0]


def ip_text(number):
    return socket.inet_ntoa(struct.pack("!I", number))


class Path:
    def __init__(self, ns, peer, options):
        self.ns, self.peer = ns, peer
        self.flow = self.port = 0
        self.source = options.get("src", "0.0.0.0")
        self.to = options.get("dst", "0.0.0.0"), int(options.get("dport", 0))
        self.mac = bytes.fromhex(options.get("dmac", "").replace(":", ""))
        for name, default in ("sport", 0), ("lport", 0), ("proto", socket.IPPROTO_UDP), ("size", 60), ("flows", 0):
            setattr(self, name, int(options.get(name, default)))

        self.conntrack = None
        if "flush" in options:
            enter(options["flush"])
            self.conntrack = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_NETFILTER)

    def flush(self):
        if self.conntrack is not None:
            request = struct.pack("=IHHIIBBH", 20, CT_DELETE, NLM_F_REQUEST | NLM_F_ACK, 0, 0, 0, 0, 0)
            self.conntrack.send(request)
            self.conntrack.recv(1024)

    def bound(self, ns, kind, port):
        enter(ns)
        bound = socket.socket(socket.AF_INET, kind)
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(("", port))
        return bound

    def next_flow(self):
        self.flow += 1
        return self.flow % self.flows


class Frames(Path):
    def open(self):
        enter(self.ns)
        self.sender = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
        self.sender.setsockopt(SOL_PACKET, PACKET_QDISC_BYPASS, 1)
        self.sender.setsockopt(socket.SOL_SOCKET, SO_SNDBUFFORCE, 8 << 20)
        self.sender.bind((self.peer, 0))

    def frame(self, source, port):
        header = struct.pack("!BBHHHBBH4s4s", 0x45, 0, self.size - 14, 0, 0, 64, self.proto, 0,
                             socket.inet_aton(source), socket.inet_aton(self.to[0]))
        total = sum(struct.unpack("!10H", header))
        total = (total & 0xFFFF) + (total >> 16)
        total = (total & 0xFFFF) + (total >> 16)
        header = header[:10] + struct.pack("!H", ~total & 0xFFFF) + header[12:]
        length = self.size - 34 if self.proto == socket.IPPROTO_UDP else 0
        frame = self.mac + bytes.fromhex("0200000000010800") + header + struct.pack("!HHH", port, self.to[1], length)
        return frame.ljust(self.size, b"\0")

    def run(self, count):
        samples = []
        frame = self.frame(self.source, self.sport)
        for _ in range(count):
            if self.flows:
                flow = self.next_flow()
                source = ip_text(ip_number(self.source) + flow // FLOWS_PER_ADDRESS)
                frame = self.frame(source, 1024 + flow % FLOWS_PER_ADDRESS)
            began = now()
            try:
                self.sender.send(frame)
            except OSError as error:
                if error.errno != 105:  # ENOBUFS: dropped on its way
                    raise
            samples.append(now() - began)
        return [middle_mean(samples)]


class Datagrams(Path):
    def open(self):
        self.receiver = self.bound(self.peer, socket.SOCK_DGRAM, self.lport)
        self.sender = self.bound(self.ns, socket.SOCK_DGRAM, self.sport)
        self.sender.connect(self.to)
        for end in self.sender, self.receiver:
            end.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, PATIENCE)

    def run(self, count):
        sending, receiving, lost, data = [], [], 0, bytes(self.size)
        while len(sending) < count:
            began = now()
            self.sender.send(data)
            sent = now()
            try:
                self.receiver.recv(2048)
            except BlockingIOError:
                lost += 1
                if lost > MOST_LOST:
                    raise
                continue
            sending.append(sent - began)
            receiving.append(now() - sent)
        return [middle_mean(sending), middle_mean(receiving)]


class RoundTrips(Datagrams):
    def round_trip(self, client):
        data = bytes(self.size)
        began = now()
        client.send(data)
        self.receiver.sendto(data, self.receiver.recvfrom(2048)[1])
        client.recv(2048)
        return now() - began

    def run(self, count):
        samples, lost = [], 0
        while len(samples) < count:
            try:
                samples.append(self.round_trip(self.sender))
            except BlockingIOError:
                lost += 1
                if lost > MOST_LOST:
                    raise
        return answer(samples)


class Requests(RoundTrips):
    def round_trip(self, _):
        enter(self.ns)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, PATIENCE)
            client.connect(self.to)
            return super().round_trip(client)


class Connects(Path):
    def open(self):
        self.listener = self.bound(self.peer, socket.SOCK_STREAM, self.lport)
        self.listener.listen(1024)

    def run(self, count):
        samples = []
        enter(self.ns)
        for _ in range(count):
            client = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
            client.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            client.bind((self.source, FIRST_PORT + self.port % PORTS))
            self.port += 1
            began = now()
            client.connect(self.to)
            samples.append(now() - began)
            server = self.listener.accept()[0]
            client.close()
            server.close()
        return answer(samples)


class Exchanges(Path):
    def open(self):
        listener = self.bound(self.peer, socket.SOCK_STREAM, self.lport)
        listener.listen(1)
        self.sender = self.bound(self.ns, socket.SOCK_STREAM, self.sport)
        self.sender.connect(self.to)
        self.receiver = listener.accept()[0]
        listener.close()
        for end in self.sender, self.receiver:
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def run(self, count):
        samples = []
        for _ in range(count):
            began = now()
            self.sender.send(b"?")
            self.receiver.recv(1)
            self.receiver.send(b"!")
            self.sender.recv(1)
            samples.append(now() - began)
        return answer(samples)


class Idle(Path):
    def open(self):
        self.receiver = self.bound(self.ns, socket.SOCK_DGRAM, self.lport)
        self.receiver.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 0)


KINDS = {"frames": Frames, "datagrams": Datagrams, "roundtrips": RoundTrips, "requests": Requests, "connects": Connects,
         "exchanges": Exchanges, "idle": Idle}


def obey(words):
    if words[0] == "open":
        name, kind, ns, peer, *options = words[1:]
        path = KINDS[kind](ns, peer, dict(option.split("=", 1) for option in options))
        path.open()
        paths[name] = path
        return "ok"
    if words[0] == "run":
        path = paths[words[1]]
        try:
            return " ".join(f"{figure:.1f}" for figure in path.run(int(words[2])))
        finally:
            path.flush()
    raise ValueError(f"unknown command {words[0]}")


if len(sys.argv) > 1:
    os.sched_setaffinity(0, [int(sys.argv[1])])
for line in sys.stdin:
    try:
        print(obey(line.split()), flush=True)
    except (OSError, ValueError, KeyError, ctypes.ArgumentError) as error:
        print(f"error: {error}", flush=True)
