"""The rules of one node: loaded, replaced, read back with their counters; and its conntrack entries.

What a node's earlier rules leave behind must not be seen by later cases. An empty iptables-legacy table stays
registered until its namespace goes, which is invisible but for `nat`: its hooks give a connection a null binding, which
resolves clashes of reply tuples, and keeps ICMP redirects about it back until both ends are bound. A network that has a
legacy nat table, also one that a case loaded on its way, therefore serves only cases that begin with one.
"""

import os
import re
import socket

from namespace import ToolFailed

BUILTIN_CHAINS = {
    "raw": ("PREROUTING", "OUTPUT"),
    "mangle": ("PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING"),
    "nat": ("PREROUTING", "INPUT", "OUTPUT", "POSTROUTING"),
    "filter": ("INPUT", "FORWARD", "OUTPUT"),
    "security": ("INPUT", "FORWARD", "OUTPUT"),
}
#: Their lists are found by name: rules that replace others of the same names inherit what those remember.
REMEMBERING = re.compile(r"-m (?:recent|hashlimit)\b")
IPV6_ADDRESS = re.compile(r"(?<==)[0-9a-f]{4}(?::[0-9a-f]{4}){7}\b")


class RulesRefused(Exception):
    """The rules of a case are wrong, says the tool that loads them."""

    def __init__(self, node, command, message):
        super().__init__(message)
        self.node = node
        self.command = command


class NodeFilter:
    def __init__(self, namespace):
        self._namespace = namespace
        self._rules = None
        self._has_sets = False
        #: As which texts of rules a legacy nat table has come: `text`, `text6`.
        self.legacy_nat = set()

    def replace(self, rules):
        """These rules and no trace of earlier ones; None for no rules."""
        if self._needs_clearing(rules):
            self._clear()
        if rules is not None:
            self.load(rules)

    def load(self, rules):
        """These rules instead of the earlier ones, as an administrator replaces them: lists found by name stay."""
        if self._rules is not None and self._rules["backend"] != rules["backend"]:
            self._clear()
        if rules.get("ipset"):
            self._load_with(["ipset", "-exist", "restore"], rules["ipset"])
            self._has_sets = True
        backend = rules["backend"]
        if backend == "nftnative":
            self._load_with(["nft", "-f", "-"], "flush ruleset; " + rules["text"])
        elif backend in ("legacy", "nft"):
            self.legacy_nat.update(needs_legacy_nat(rules))
            earlier = self._rules or {}
            for family, key in (("iptables", "text"), ("ip6tables", "text6")):
                self._restore(family, backend, rules.get(key), earlier.get(key))
        else:
            raise ValueError(f'backend "{backend}" of {self._namespace.name}; expected legacy, nft or nftnative')
        self._rules = rules

    def counters(self):
        """The rules with their counters, or None where there are none."""
        if self._rules is None:
            return None
        if self._rules["backend"] == "nftnative":
            return self._namespace.run(["nft", "-j", "list", "ruleset"])
        saved = []
        for family, text in (("iptables", self._rules.get("text")), ("ip6tables", self._rules.get("text6"))):
            if text:
                printed = self._namespace.run([f"{family}-{self._rules['backend']}-save", "-c"])
                saved.append(only_tables(printed, tables_of(text)))
        return "".join(saved)

    def conntrack(self):
        """As `conntrack -L -o extended` prints them, both families, sorted."""
        with self._namespace, open("/proc/net/nf_conntrack", encoding="ascii") as file:
            return sorted(as_conntrack_prints(line) for line in file)

    def _needs_clearing(self, rules):
        if self._rules is None:
            return False
        if rules is None or rules["backend"] != self._rules["backend"]:
            return True
        if self._has_sets:
            return True
        if rules["backend"] == "nftnative":
            return False
        return any(REMEMBERING.search(self._rules.get(key) or "") for key in ("text", "text6"))

    def _clear(self):
        if self._rules["backend"] == "legacy":
            self._empty_tables("iptables", tables_of(self._rules.get("text")))
            self._empty_tables("ip6tables", tables_of(self._rules.get("text6")))
        else:
            self._namespace.run(["nft", "flush", "ruleset"])
        if self._has_sets:
            self._namespace.run(["ipset", "destroy"])
            self._has_sets = False
        self._rules = None

    def _restore(self, family, backend, text, earlier):
        if backend == "legacy":
            tables = tables_of(text)
            inheriting = {table for table in tables if not declares_builtin_chains(text, table)}
            self._empty_tables(family, inheriting | (tables_of(earlier) - tables))
        if text:
            self._load_with([f"{family}-{backend}-restore"], text)
        if backend == "nft":
            nft_family = "ip" if family == "iptables" else "ip6"
            for table in sorted(tables_of(earlier) - tables_of(text)):
                self._namespace.run(["nft", "delete", "table", nft_family, table])

    def _empty_tables(self, family, tables):
        if tables:
            self._namespace.run([f"{family}-legacy-restore"], "".join(map(empty_table, sorted(tables))))

    def _load_with(self, command, text):
        try:
            self._namespace.run(command, text)
        except ToolFailed as failure:
            raise RulesRefused(self._namespace.name, command[0], failure.message) from None


def tables_of(text):
    return set(re.findall(r"^\*(\S+)", text or "", re.MULTILINE))


def needs_legacy_nat(rules):
    """Which families of these rules register a legacy nat table."""
    if rules["backend"] != "legacy":
        return ()
    return tuple(key for key in ("text", "text6") if "nat" in tables_of(rules.get(key)))


def declares_builtin_chains(text, table):
    section = re.search(rf"^\*{re.escape(table)}$(.*?)^COMMIT$", text, re.MULTILINE | re.DOTALL)
    declared = set(re.findall(r"^:(\S+)", section.group(1), re.MULTILINE)) if section else set()
    return declared.issuperset(BUILTIN_CHAINS.get(table, ()))


def empty_table(table):
    chains = "".join(f":{chain} ACCEPT [0:0]\n" for chain in BUILTIN_CHAINS.get(table, ()))
    return f"*{table}\n{chains}COMMIT\n"


def only_tables(printed, tables):
    """Without comments (they hold dates) and without tables that only earlier cases had rules in."""
    lines, wanted = [], False
    for line in printed.splitlines(keepends=True):
        if line.startswith("*"):
            wanted = line[1:].strip() in tables
        if wanted and not line.startswith("#"):
            lines.append(line)
    return "".join(lines)


def as_conntrack_prints(line):
    """A line of /proc/net/nf_conntrack: the file holds one more use, all zones, and IPv6 addresses at full length."""
    line = line.rstrip().replace(" zone=0", "")
    line = re.sub(r" use=(\d+)$", lambda use: f" use={int(use.group(1)) - 1}", line)
    return IPV6_ADDRESS.sub(compressed, line)


def compressed(address):
    return socket.inet_ntop(socket.AF_INET6, socket.inet_pton(socket.AF_INET6, address.group()))


def private_xtables_lock(path):
    """iptables-legacy locks one file per machine; these namespaces are nobody else's."""
    os.environ["XTABLES_LOCKFILE"] = path
