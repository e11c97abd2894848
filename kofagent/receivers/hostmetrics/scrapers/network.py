"""network: interfaces (/proc/net/dev), TCP connections (/proc/net/tcp, tcp6) and connection tracking (/proc/sys)."""

from __future__ import annotations

from collections import Counter

from kofagent.receivers.hostmetrics.config import NetworkOptions, wanted
from kofagent.receivers.hostmetrics.recorder import Recorder
from kofagent.receivers.hostmetrics.roots import Roots
from kofagent.receivers.hostmetrics.scrapers import LINUX, Round, Scrape

TCP_STATES = {
    "01": "ESTABLISHED",
    "02": "SYN_SENT",
    "03": "SYN_RECV",
    "04": "FIN_WAIT_1",
    "05": "FIN_WAIT_2",
    "06": "TIME_WAIT",
    "07": "CLOSE",
    "08": "CLOSE_WAIT",
    "09": "LAST_ACK",
    "0A": "LISTEN",
    "0B": "CLOSING",
    "0C": "SYN_RECV",
}
"""include/net/tcp_states.h; 0C is a request socket, which ss(8) shows as SYN-RECV too."""
ALL_STATES = (
    "CLOSE_WAIT",
    "CLOSE",
    "CLOSING",
    "DELETE",
    "ESTABLISHED",
    "FIN_WAIT_1",
    "FIN_WAIT_2",
    "LAST_ACK",
    "LISTEN",
    "SYN_SENT",
    "SYN_RECV",
    "TIME_WAIT",
)
_PSUTIL_STATES = {"FIN_WAIT1": "FIN_WAIT_1", "FIN_WAIT2": "FIN_WAIT_2", "DELETE_TCB": "DELETE"}
_COUNTERS = ("system.network.io", "system.network.packets", "system.network.errors", "system.network.dropped")


def scraper(options: NetworkOptions, roots: Roots) -> Scrape:
    """The network namespace is that of the process whose /proc it is, the host's for a pod on the host network."""
    keep = wanted(options.include, options.exclude)

    def scrape(out: Recorder, round: Round) -> None:
        if out.on(*_COUNTERS):
            try:
                for name, received, sent in _interfaces(roots) if LINUX else _psutil_interfaces():
                    if keep is None or keep(name):
                        for metric, r, t in zip(_COUNTERS, received, sent, strict=True):
                            out.add(metric, t, name, "transmit")
                            out.add(metric, r, name, "receive")
            except (OSError, ValueError) as error:
                out.failed(4, "cannot read the counters of the network interfaces", str(error))
        if out.on("system.network.connections"):
            try:
                states = tcp_states(roots) if LINUX else _psutil_states()
                for state in dict.fromkeys((*ALL_STATES, *states)):
                    out.add("system.network.connections", states[state], "tcp", state)
            except (OSError, ValueError, RuntimeError) as error:
                out.failed(1, "cannot read the TCP connections", str(error))
        if LINUX and out.on("system.network.conntrack.count", "system.network.conntrack.max"):
            try:
                for name in ("count", "max"):
                    out.add(f"system.network.conntrack.{name}", int(roots.read_proc(f"sys/net/netfilter/nf_conntrack_{name}")))
            except (OSError, ValueError) as error:
                out.failed(
                    2, "cannot read the connection tracking table; check that the kernel module nf_conntrack is loaded", str(error)
                )

    return scrape


Four = tuple[int, int, int, int]
"""Bytes, packets, errors, dropped."""


def _interfaces(roots: Roots) -> list[tuple[str, Four, Four]]:
    out = []
    for line in roots.read_proc("net/dev").splitlines()[2:]:
        name, colon, rest = line.rpartition(":")
        columns = rest.split()
        if colon and name.strip() and len(columns) >= 13:
            n = [int(c) for c in columns[:12]]
            out.append((name.strip(), (n[0], n[1], n[2], n[3]), (n[8], n[9], n[10], n[11])))
    return out


def tcp_states(roots: Roots) -> Counter[str]:
    """Number of TCP sockets by state, IPv4 and IPv6; a kernel without IPv6 has no tcp6."""
    states: Counter[str] = Counter()
    for name in ("net/tcp", "net/tcp6"):
        try:
            text = roots.read_proc(name)
        except FileNotFoundError:
            if name == "net/tcp":
                raise
            continue
        # A socket may show up twice when the table changes while it is read; address pair and state tell them apart.
        sockets = {tuple(columns[1:4]) for line in text.splitlines()[1:] if len(columns := line.split()) >= 10}
        states.update(TCP_STATES.get(state, state) for _, _, state in sockets)
    return states


def _psutil_interfaces() -> list[tuple[str, Four, Four]]:
    import psutil

    return [
        (name, (c.bytes_recv, c.packets_recv, c.errin, c.dropin), (c.bytes_sent, c.packets_sent, c.errout, c.dropout))
        for name, c in psutil.net_io_counters(pernic=True).items()
    ]


def _psutil_states() -> Counter[str]:
    import psutil

    try:
        return Counter(_PSUTIL_STATES.get(c.status, c.status) for c in psutil.net_connections("tcp"))
    except psutil.Error as error:
        raise RuntimeError(str(error)) from error
