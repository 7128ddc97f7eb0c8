"""The real sockets of a case: listeners, connections, and what their system calls say.

A TCP listener accepts and stays silent; a UDP listener sends every datagram back.
"""

import errno
import select
import socket
import struct

DEFAULT_TIMEOUT_MS = 300
DATAGRAM = b"ping"


class Sockets:
    def __init__(self, namespaces):
        self._namespaces = namespaces
        #: (namespace name, socket) in order of opening.
        self._open = []
        self._udp_listeners = []
        self._tcp_listeners = []

    def step(self, step):
        """What became of it, in one word."""
        namespace = self._namespaces[step["in"]]
        actions = {"listen": self._listen, "connect": self._connect, "close": self._close}
        try:
            return actions[step["do"]](namespace, step)
        except OSError as error:
            return "ETIMEDOUT" if isinstance(error, TimeoutError) else errno.errorcode.get(error.errno, str(error))

    def close_all(self):
        """Without farewells: nothing of this case may be on its way in the next."""
        for _, each in self._open:
            if each.type == socket.SOCK_STREAM:
                each.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            each.close()
        self._open, self._udp_listeners, self._tcp_listeners = [], [], []

    def _listen(self, namespace, step):
        listener = self._new_socket(namespace, step)
        address = step.get("ip") or ("::" if listener.family == socket.AF_INET6 else "0.0.0.0")
        listener.bind((address, step["port"]))
        if step["proto"] == "tcp":
            listener.listen(4096)
            self._tcp_listeners.append((namespace.name, listener))
        else:
            self._udp_listeners.append(listener)
        return "listening"

    def _connect(self, namespace, step):
        timeout_ms = step.get("timeoutMs", DEFAULT_TIMEOUT_MS)
        client = self._new_socket(namespace, step)
        if "sport" in step:
            client.bind(("::" if client.family == socket.AF_INET6 else "0.0.0.0", step["sport"]))
        if step["proto"] == "udp":
            client.connect((step["ip"], step["port"]))
            return self._exchange(client, timeout_ms)
        failure = client.connect_ex((step["ip"], step["port"]))
        if failure == errno.EINPROGRESS:
            poll = select.poll()
            poll.register(client, select.POLLOUT)
            if not poll.poll(timeout_ms):
                self._forget(client)
                return "ETIMEDOUT"
            failure = client.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        self._accept()
        return errno.errorcode[failure] if failure else "connected"

    def _exchange(self, client, timeout_ms):
        """`answered`, or `sent` if nothing came back."""
        client.send(DATAGRAM)
        self._echo()
        poll = select.poll()
        poll.register(client, select.POLLIN)
        if not poll.poll(timeout_ms):
            return "sent"
        client.recv(1 << 16)
        return "answered"

    def _close(self, namespace, _):
        own = [each for name, each in self._open if name == namespace.name]
        for each in own:
            self._forget(each)
        return "closed"

    def _echo(self):
        for listener in self._udp_listeners:
            try:
                while True:
                    data, sender = listener.recvfrom(1 << 16)
                    listener.sendto(data, sender)
            except BlockingIOError:
                pass

    def _accept(self):
        for name, listener in self._tcp_listeners:
            try:
                while True:
                    self._open.append((name, listener.accept()[0]))
            except BlockingIOError:
                pass

    def _new_socket(self, namespace, step):
        family = socket.AF_INET6 if ":" in (step.get("ip") or "") else socket.AF_INET
        kind = socket.SOCK_STREAM if step["proto"] == "tcp" else socket.SOCK_DGRAM
        with namespace:
            made = socket.socket(family, kind | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._open.append((namespace.name, made))
        return made

    def _forget(self, closed):
        closed.close()
        self._open = [entry for entry in self._open if entry[1] is not closed]
        self._udp_listeners = [listener for listener in self._udp_listeners if listener is not closed]
        self._tcp_listeners = [entry for entry in self._tcp_listeners if entry[1] is not closed]
