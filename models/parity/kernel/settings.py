"""Settings that Linux has once per machine, changed while a runner lives and put back by the last one to leave.

The runners of a machine share a file that holds the values from before, and who still needs the changed ones.
"""

import contextlib
import fcntl
import json
import os

from namespace import read_sysctl, write_sysctl

SHARED_FILE = "/run/podwire-parity.json"

#: Costs and limits that would make an outcome depend on when it was asked for.
WANTED = {
    # ip_error() sends no more than a few unreachables per second to one destination.
    "net.ipv4.route.error_cost": "0",
    # ip_rt_send_redirect() waits longer after every redirect to one host, and forgets after this silence.
    "net.ipv4.route.redirect_silence": "-1",
    # A listing walks all buckets.
    "net.netfilter.nf_conntrack_buckets": "4096",
}
#: Grace periods of RCU take less than a millisecond instead of twenty: those who open or close captures, replace rules or
#: end namespaces wait for them, most of a case's time. Where it cannot be set, cases only take longer.
EXPEDITED = "/sys/kernel/rcu_expedited"


class MachineSettings:
    def __enter__(self):
        with shared_record() as record:
            if not record["holders"]:
                record["before"] = {name: read_sysctl(name) for name in WANTED}
                for name, value in WANTED.items():
                    write_sysctl(name, value)
                with contextlib.suppress(OSError):
                    before = read_sysctl(EXPEDITED)
                    write_sysctl(EXPEDITED, "1")
                    record["before"][EXPEDITED] = before
            record["holders"].append(this_process())
        return self

    def __exit__(self, *_):
        with shared_record() as record:
            record["holders"].remove(this_process())
            if not record["holders"]:
                for name, value in record["before"].items():
                    write_sysctl(name, value)


@contextlib.contextmanager
def shared_record():
    """The shared file under its lock, without the processes that died."""
    with open(os.open(SHARED_FILE, os.O_RDWR | os.O_CREAT, 0o600), "r+", encoding="utf-8") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        text = file.read()
        record = json.loads(text) if text else {"before": {}, "holders": []}
        alive = [holder for holder in record["holders"] if started(holder["pid"]) == holder["started"]]
        died = len(alive) < len(record["holders"])
        record["holders"] = alive
        if died and not alive:
            for name, value in record["before"].items():
                write_sysctl(name, value)
        yield record
        file.seek(0)
        file.truncate()
        json.dump(record, file)


def this_process():
    return {"pid": os.getpid(), "started": started(os.getpid())}


def started(pid):
    """In clock ticks since boot: numbers of processes come again. None for a process that is gone."""
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as file:
            return int(file.read().rpartition(")")[2].split()[19])
    except FileNotFoundError:
        return None
