"""Names, units, kinds, attributes and defaults against upstream's metadata (a second, independent table of the facts)."""

from __future__ import annotations

from kofagent.receivers.hostmetrics.catalog import CATALOG, RESOURCE_ATTRIBUTES, SCOPE

# name | unit | kind (g gauge, s sum, m monotonic sum) and value (i, d) | on by default | attributes
UPSTREAM = """
cpu system.cpu.frequency Hz gd off cpu
cpu system.cpu.logical.count {cpu} si on
cpu system.cpu.physical.count {cpu} si off
cpu system.cpu.time s md on cpu,state
cpu system.cpu.utilization 1 gd off cpu,state
disk system.disk.io By mi on device,direction
disk system.disk.io_time s md on device
disk system.disk.merged {operations} mi on device,direction
disk system.disk.operation_time s md on device,direction
disk system.disk.operations {operations} mi on device,direction
disk system.disk.pending_operations {operations} si on device
disk system.disk.weighted_io_time s md on device
filesystem system.filesystem.inodes.usage {inodes} si on device,mode,mountpoint,type,state
filesystem system.filesystem.usage By si on device,mode,mountpoint,type,state
filesystem system.filesystem.utilization 1 gd off device,mode,mountpoint,type
load system.cpu.load_average.15m {thread} gd on
load system.cpu.load_average.1m {thread} gd on
load system.cpu.load_average.5m {thread} gd on
memory system.linux.memory.available By si off
memory system.linux.memory.dirty By si off
memory system.memory.limit By si off
memory system.memory.linux.hugepages.limit {page} si off
memory system.memory.linux.hugepages.page_size By si off
memory system.memory.linux.hugepages.reserved {page} si off
memory system.memory.linux.hugepages.surplus {page} si off
memory system.memory.linux.hugepages.usage {page} si off system.memory.linux.hugepages.state
memory system.memory.linux.hugepages.utilization 1 gd off system.memory.linux.hugepages.state
memory system.memory.linux.shared By si off
memory system.memory.page_size By gi off
memory system.memory.usage By si on state
memory system.memory.utilization 1 gd off state
network system.network.connections {connections} si on protocol,state
network system.network.conntrack.count {entries} si off
network system.network.conntrack.max {entries} si off
network system.network.dropped {packets} mi on device,direction
network system.network.errors {errors} mi on device,direction
network system.network.io By mi on device,direction
network system.network.packets {packets} mi on device,direction
nfs nfs.client.net.count {record} mi on network.transport
nfs nfs.client.net.tcp.connection.accepted {connection} mi on
nfs nfs.client.operation.count {operation} mi on onc_rpc.version,nfs.operation.name
nfs nfs.client.procedure.count {procedure} mi on onc_rpc.version,onc_rpc.procedure.name
nfs nfs.client.rpc.authrefresh.count {authrefresh} mi on
nfs nfs.client.rpc.count {request} mi on
nfs nfs.client.rpc.retransmit.count {retransmit} mi on
nfs nfs.server.fh.stale.count {fh} mi on
nfs nfs.server.io By mi on network.io.direction
nfs nfs.server.net.count {request} mi on network.transport
nfs nfs.server.net.tcp.connection.accepted {connection} mi on
nfs nfs.server.operation.count {operation} mi on onc_rpc.version,nfs.operation.name
nfs nfs.server.procedure.count {procedure} mi on onc_rpc.version,onc_rpc.procedure.name
nfs nfs.server.repcache.requests {request} mi on nfs.server.repcache.status
nfs nfs.server.rpc.count {request} mi on error.type
nfs nfs.server.thread.count {thread} si on
paging system.paging.faults {faults} mi on type
paging system.paging.operations {operations} mi on direction,type
paging system.paging.usage By si on device,state
paging system.paging.utilization 1 gd off device,state
processes system.processes.count {processes} si on status
processes system.processes.created {processes} mi on
process process.context_switches {count} mi off type
process process.cpu.time s md on state
process process.cpu.utilization 1 gd off state
process process.disk.io By mi on direction
process process.disk.operations {operations} mi off direction
process process.handles {count} si off
process process.memory.usage By si on
process process.memory.utilization 1 gd off
process process.memory.virtual By si on
process process.open_file_descriptors {count} si off
process process.paging.faults {faults} mi off type
process process.signals_pending {signals} si off
process process.threads {threads} si off
process process.uptime s gd off
system system.uptime s gd on
"""


def test_catalog_is_upstreams() -> None:
    ours = set()
    for scraper, entries in CATALOG.items():
        for name, entry in entries.items():
            metric = entry.metric
            kind = "g" if metric.kind == "gauge" else "m" if metric.monotonic else "s"
            ours.add(
                " ".join(
                    [
                        scraper,
                        name,
                        metric.unit,
                        kind + ("d" if metric.double else "i"),
                        "on" if entry.enabled else "off",
                        ",".join(entry.attributes),
                    ]
                ).strip()
            )
    assert ours == set(UPSTREAM.strip().splitlines())


def test_cpu_number_is_opt_in() -> None:
    opt_in = {(name, a) for entries in CATALOG.values() for name, entry in entries.items() for a in entry.opt_in}
    assert opt_in == {("system.cpu.time", "cpu"), ("system.cpu.utilization", "cpu")}


def test_process_resource_attributes() -> None:
    assert {name for name, on in RESOURCE_ATTRIBUTES.items() if not on} == {"process.cgroup", "process.linux.cgroup"}
    assert len(RESOURCE_ATTRIBUTES) == 9


def test_scope_names_can_be_selected_as_upstreams() -> None:
    assert SCOPE.format("cpu").endswith("receiver/hostmetricsreceiver/internal/scraper/cpuscraper")
