"""The metrics of every scraper: name, unit, kind, attributes and whether they are on by default.

Facts of upstream's metadata (opentelemetry-collector-contrib 0.160, receiver/hostmetricsreceiver), which
`tests/receivers/hostmetrics/test_catalog.py` holds a second copy of.
"""

from __future__ import annotations

from typing import NamedTuple

from kofagent.transform.otlp_metrics import Metric

SCHEMA_URL = {"process": "https://opentelemetry.io/schemas/1.43.0"}
DEFAULT_SCHEMA_URL = "https://opentelemetry.io/schemas/1.9.0"
SCOPE = "github.com/open-telemetry/opentelemetry-collector-contrib/receiver/hostmetricsreceiver/internal/scraper/{}scraper"
"""Upstream's scope name: pipelines select host metrics by it (`IsMatch(scope.name, "hostmetrics")`)."""


class Entry(NamedTuple):
    """One metric of the catalogue. `opt_in` names the attributes that are only sent when asked for."""

    metric: Metric
    attributes: tuple[str, ...]
    enabled: bool
    opt_in: frozenset[str]


def _gauge(
    name: str, unit: str, description: str, attributes: str = "", *, on: bool = True, double: bool = True, opt_in: str = ""
) -> Entry:
    metric = Metric(name, unit, description, "gauge", double=double)
    return Entry(metric, tuple(attributes.split()), on, frozenset(opt_in.split()))


def _sum(
    name: str,
    unit: str,
    description: str,
    attributes: str = "",
    *,
    on: bool = True,
    double: bool = False,
    monotonic: bool = False,
    opt_in: str = "",
) -> Entry:
    metric = Metric(name, unit, description, "sum", double=double, monotonic=monotonic)
    return Entry(metric, tuple(attributes.split()), on, frozenset(opt_in.split()))


def _counter(
    name: str, unit: str, description: str, attributes: str = "", *, on: bool = True, double: bool = False, opt_in: str = ""
) -> Entry:
    return _sum(name, unit, description, attributes, on=on, double=double, monotonic=True, opt_in=opt_in)


def _table(*entries: Entry) -> dict[str, Entry]:
    return {entry.metric.name: entry for entry in entries}


_FS = "device mode mountpoint type"

CATALOG: dict[str, dict[str, Entry]] = {
    "cpu": _table(
        _counter("system.cpu.time", "s", "Seconds the CPU spent in each state.", "cpu state", double=True, opt_in="cpu"),
        _gauge(
            "system.cpu.utilization",
            "1",
            "Share of the time since the last scrape spent in each state.",
            "cpu state",
            on=False,
            opt_in="cpu",
        ),
        _gauge("system.cpu.frequency", "Hz", "Current clock frequency of the core.", "cpu", on=False),
        _sum("system.cpu.logical.count", "{cpu}", "Logical CPUs."),
        _sum("system.cpu.physical.count", "{cpu}", "Physical cores.", on=False),
    ),
    "disk": _table(
        _counter("system.disk.io", "By", "Bytes read from and written to the device.", "device direction"),
        _counter("system.disk.io_time", "s", "Time the device was busy.", "device", double=True),
        _counter("system.disk.merged", "{operations}", "Operations merged into one by the kernel.", "device direction"),
        _counter("system.disk.operation_time", "s", "Time spent in operations.", "device direction", double=True),
        _counter("system.disk.operations", "{operations}", "Finished operations.", "device direction"),
        _sum("system.disk.pending_operations", "{operations}", "Operations in progress.", "device"),
        _counter("system.disk.weighted_io_time", "s", "Busy time weighted by the length of the queue.", "device", double=True),
    ),
    "filesystem": _table(
        _sum("system.filesystem.inodes.usage", "{inodes}", "Inodes by state.", _FS + " state"),
        _sum("system.filesystem.usage", "By", "Bytes by state.", _FS + " state"),
        _gauge("system.filesystem.utilization", "1", "Share of the bytes available to users that is used.", _FS, on=False),
    ),
    "load": _table(
        _gauge("system.cpu.load_average.1m", "{thread}", "Load average of one minute."),
        _gauge("system.cpu.load_average.5m", "{thread}", "Load average of five minutes."),
        _gauge("system.cpu.load_average.15m", "{thread}", "Load average of fifteen minutes."),
    ),
    "memory": _table(
        _sum("system.memory.usage", "By", "Memory by state.", "state"),
        _gauge("system.memory.utilization", "1", "Share of the memory in each state.", "state", on=False),
        _sum("system.memory.limit", "By", "All memory.", on=False),
        _gauge("system.memory.page_size", "By", "Size of a page.", on=False, double=False),
        _sum("system.linux.memory.available", "By", "Memory available to a new program without swapping.", on=False),
        _sum("system.linux.memory.dirty", "By", "Memory waiting to be written back.", on=False),
        _sum("system.memory.linux.shared", "By", "Shared memory, tmpfs included.", on=False),
        _sum("system.memory.linux.hugepages.limit", "{page}", "Huge pages of the pool.", on=False),
        _sum("system.memory.linux.hugepages.page_size", "By", "Size of a huge page.", on=False),
        _sum("system.memory.linux.hugepages.reserved", "{page}", "Huge pages reserved and not yet allocated.", on=False),
        _sum("system.memory.linux.hugepages.surplus", "{page}", "Huge pages beyond the persistent pool.", on=False),
        _sum(
            "system.memory.linux.hugepages.usage", "{page}", "Huge pages by state.", "system.memory.linux.hugepages.state", on=False
        ),
        _gauge(
            "system.memory.linux.hugepages.utilization",
            "1",
            "Share of the huge pages in each state.",
            "system.memory.linux.hugepages.state",
            on=False,
        ),
    ),
    "network": _table(
        _sum("system.network.connections", "{connections}", "TCP connections by state.", "protocol state"),
        _sum("system.network.conntrack.count", "{entries}", "Entries of the connection tracking table.", on=False),
        _sum("system.network.conntrack.max", "{entries}", "Limit of the connection tracking table.", on=False),
        _counter("system.network.dropped", "{packets}", "Packets dropped.", "device direction"),
        _counter("system.network.errors", "{errors}", "Errors of the device.", "device direction"),
        _counter("system.network.io", "By", "Bytes received and sent.", "device direction"),
        _counter("system.network.packets", "{packets}", "Packets received and sent.", "device direction"),
    ),
    "nfs": _table(
        _counter("nfs.client.net.count", "{record}", "TCP segments and UDP datagrams of the client.", "network.transport"),
        _counter("nfs.client.net.tcp.connection.accepted", "{connection}", "TCP connections of the client."),
        _counter(
            "nfs.client.operation.count", "{operation}", "NFSv4 operations of the client.", "onc_rpc.version nfs.operation.name"
        ),
        _counter(
            "nfs.client.procedure.count",
            "{procedure}",
            "Procedures called by the client.",
            "onc_rpc.version onc_rpc.procedure.name",
        ),
        _counter("nfs.client.rpc.authrefresh.count", "{authrefresh}", "Refreshed RPC credentials of the client."),
        _counter("nfs.client.rpc.count", "{request}", "RPCs the client sent."),
        _counter("nfs.client.rpc.retransmit.count", "{retransmit}", "RPCs the client sent again."),
        _counter("nfs.server.fh.stale.count", "{fh}", "Stale file handles the server saw."),
        _counter("nfs.server.io", "By", "Bytes the server received and sent.", "network.io.direction"),
        _counter("nfs.server.net.count", "{request}", "TCP segments and UDP datagrams of the server.", "network.transport"),
        _counter("nfs.server.net.tcp.connection.accepted", "{connection}", "TCP connections the server accepted."),
        _counter(
            "nfs.server.operation.count", "{operation}", "NFSv4 operations of the server.", "onc_rpc.version nfs.operation.name"
        ),
        _counter(
            "nfs.server.procedure.count", "{procedure}", "Procedures the server ran.", "onc_rpc.version onc_rpc.procedure.name"
        ),
        _counter("nfs.server.repcache.requests", "{request}", "Look-ups of the reply cache.", "nfs.server.repcache.status"),
        _counter("nfs.server.rpc.count", "{request}", "RPCs the server refused, by cause.", "error.type"),
        _sum("nfs.server.thread.count", "{thread}", "Threads of the server."),
    ),
    "paging": _table(
        _counter("system.paging.faults", "{faults}", "Page faults.", "type"),
        _counter("system.paging.operations", "{operations}", "Pages moved in and out.", "direction type"),
        _sum("system.paging.usage", "By", "Swap by state.", "device state"),
        _gauge("system.paging.utilization", "1", "Share of the swap in each state.", "device state", on=False),
    ),
    "processes": _table(
        _sum("system.processes.count", "{processes}", "Processes by state.", "status"),
        _counter("system.processes.created", "{processes}", "Processes created since the boot."),
    ),
    "process": _table(
        _counter("process.cpu.time", "s", "CPU time of the process by state.", "state", double=True),
        _gauge("process.cpu.utilization", "1", "Share of all CPUs used since the last scrape.", "state", on=False),
        _counter("process.disk.io", "By", "Bytes the process read and wrote.", "direction"),
        _counter("process.disk.operations", "{operations}", "Read and write calls of the process.", "direction", on=False),
        _sum("process.memory.usage", "By", "Physical memory of the process."),
        _sum("process.memory.virtual", "By", "Virtual memory of the process."),
        _gauge("process.memory.utilization", "1", "Physical memory of the process in percent of all.", on=False),
        _counter("process.context_switches", "{count}", "Context switches of the process.", "type", on=False),
        _sum("process.handles", "{count}", "Open handles (Windows).", on=False),
        _sum("process.open_file_descriptors", "{count}", "Open file descriptors.", on=False),
        _counter("process.paging.faults", "{faults}", "Page faults of the process.", "type", on=False),
        _sum("process.signals_pending", "{signals}", "Signals waiting for the process.", on=False),
        _sum("process.threads", "{threads}", "Threads of the process.", on=False),
        _gauge("process.uptime", "s", "Time since the process started.", on=False),
    ),
    "system": _table(_gauge("system.uptime", "s", "Time since the boot.")),
}

RESOURCE_ATTRIBUTES = {
    "process.pid": True,
    "process.parent_pid": True,
    "process.executable.name": True,
    "process.executable.path": True,
    "process.command": True,
    "process.command_line": True,
    "process.owner": True,
    "process.cgroup": False,
    "process.linux.cgroup": False,
}
"""Resource attributes of the process scraper and whether they are on by default."""
