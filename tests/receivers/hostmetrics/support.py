"""A host in a directory, and OTLP metrics as plain Python."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest

from kofagent.receivers.hostmetrics import COMPONENT
from kofagent.telemetry.signal import Signal
from tests.support.components import FakeHost, Sink, make

FILES = {
    "proc/stat": "cpu  300 30 60 6000 12 3 6 9 0 0\n"
    "cpu0 100 10 20 2000 4 1 2 3 0 0\n"
    "cpu1 200 20 40 4000 8 2 4 6 0 0\n"
    "intr 1\nctxt 5\nbtime 1700000000\nprocesses 4242\nprocs_running 3\nprocs_blocked 1\n",
    "proc/cpuinfo": "processor\t: 0\ncpu MHz\t\t: 2400.5\nphysical id\t: 0\ncpu cores\t: 1\n\n"
    "processor\t: 1\ncpu MHz\t\t: 1200\nphysical id\t: 0\ncpu cores\t: 1\n\n",
    "proc/loadavg": "0.50 1.00 2.00 1/200 4242\n",
    "proc/uptime": "1234.56 2000.00\n",
    "proc/meminfo": "MemTotal:       1000 kB\nMemFree:         100 kB\nMemAvailable:    400 kB\nBuffers:          50 kB\n"
    "Cached:          200 kB\nDirty:             7 kB\nShmem:            11 kB\nSReclaimable:     30 kB\n"
    "SUnreclaim:       20 kB\nHugePages_Total:      10\nHugePages_Free:        4\nHugePages_Rsvd:        1\n"
    "HugePages_Surp:        2\nHugepagesize:       2048 kB\n",
    "proc/diskstats": "   8       0 sda 10 1 20 300 40 4 50 600 7 800 900 0 0 0 0\n"
    "   8       1 sda1 1 0 2 3 4 0 5 6 0 8 9\n"
    "   7       0 loop0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0\n",
    "proc/net/dev": "Inter-|   Receive                                                |  Transmit\n"
    " face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed\n"
    "    lo:     100       1    0    0    0     0          0         0      100       1    0    0    0     0       0          0\n"
    "  eth0:    2000      20    3    4    0     0          0         0     1000      10    5    6    0     0       0          0\n",
    "proc/net/tcp": "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"
    "   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1 1\n"
    "   1: 0100007F:1F90 0100007F:9C40 01 00000000:00000000 00:00000000 00000000     0        0 2 1\n"
    "   2: 0100007F:9C41 0100007F:9C40 04 00000000:00000000 00:00000000 00000000     0        0 3 1\n",
    "proc/sys/net/netfilter/nf_conntrack_count": "17\n",
    "proc/sys/net/netfilter/nf_conntrack_max": "65536\n",
    "proc/swaps": "Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n/dev/sda2                               partition\t1000\t250\t-2\n",
    "proc/vmstat": "nr_free_pages 5\npgpgin 100\npgpgout 200\npswpin 3\npswpout 4\npgfault 1000\npgmajfault 10\n",
    "proc/filesystems": "nodev\ttmpfs\nnodev\tproc\n\text4\n\tvfat\n",
    "proc/1/mountinfo": "22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/root rw,errors=remount-ro\n"
    "23 22 8:2 / /data\\040disk ro,relatime shared:2 - ext4 /dev/sdb1 rw\n"
    "24 22 0:20 / /run rw,nosuid - tmpfs tmpfs rw,size=1k\n"
    "25 22 8:1 /var/lib /srv rw,relatime shared:1 - ext4 /dev/root rw\n",
    "proc/net/rpc/nfs": "net 10 1 9 2\nrpc 100 3 4\nproc3 22 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21\n"
    "proc4 3 0 5 6\n",
    "proc/net/rpc/nfsd": "rc 1 2 3\nfh 4 0 0 0 0\nio 500 600\nth 8 0 0.000 0.000\nnet 20 2 18 3\nrpc 50 6 1 2 3\n"
    "proc4 2 7 9\nproc4ops 5 0 0 0 11 12\n",
    "etc/passwd": "root:x:0:0:root:/root:/bin/sh\nweb:x:1234:1234::/:/bin/false\n",
}


def build(root: Path, files: Mapping[str, str] = FILES) -> Path:
    """The host's root directory with these files, two CPUs on one core each and one process."""
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    for cpu in (0, 1):
        topology = root / f"sys/devices/system/cpu/cpu{cpu}/topology"
        topology.mkdir(parents=True, exist_ok=True)
        (topology / "core_cpus_list").write_text(f"{cpu}\n")
    block = root / "sys/dev/block"
    block.mkdir(parents=True, exist_ok=True)
    os.symlink("../../devices/pci/block/sda/sda1", block / "8:1")
    for mount in ("data disk", "run", "srv"):
        (root / mount).mkdir(exist_ok=True)
    return root


def add_process(
    root: Path,
    pid: int,
    comm: str = "web (x)",
    *,
    state: str = "S",
    cmdline: bytes = b"/usr/bin/web\0--port\0" + b"80\0",
    start: int = 5000,
    uid: int = 1234,
) -> Path:
    """A process with user time 150, system 50, block wait 25 ticks, 3 threads, 8192 virtual bytes and 2 resident pages."""
    path = root / f"proc/{pid}"
    path.mkdir(parents=True)
    after = [
        state,
        "1",
        "1",
        "1",
        "0",
        "-1",
        "4194304",
        "700",
        "0",
        "8",
        "0",
        "150",
        "50",
        "0",
        "0",
        "20",
        "0",
        "3",
        "0",
        str(start),
        "8192",
        "2",
        *["0"] * 17,
        "25",
        "0",
        "0",
    ]
    (path / "stat").write_text(f"{pid} ({comm}) {' '.join(after)}\n")
    (path / "status").write_text(f"Name:\t{comm}\nUid:\t{uid}\t{uid}\t{uid}\t{uid}\nShdPnd:\t0000000000000005\n")
    (path / "statm").write_text("2 2 1 1 0 1 0\n")
    (path / "cmdline").write_bytes(cmdline)
    (path / "io").write_text(
        "rchar: 1000\nwchar: 2000\nsyscr: 30\nsyscw: 40\nread_bytes: 5\nwrite_bytes: 6\ncancelled_write_bytes: 0\n"
    )
    (path / "cgroup").write_text("0::/system.slice/web.service\n")
    os.symlink("/usr/bin/web", path / "exe")
    (path / "fd").mkdir()
    for fd in range(4):
        (path / f"fd/{fd}").write_text("")
    for thread in (pid, pid + 100000):
        (path / f"task/{thread}").mkdir(parents=True)
        (path / f"task/{thread}/status").write_text("voluntary_ctxt_switches:\t10\nnonvoluntary_ctxt_switches:\t3\n")
    return path


def receiver(root: Path | str, scrapers: Mapping[str, Any], host: FakeHost | None = None, **options: Any) -> Any:
    """A receiver, its scrapers made but its loop not running: `collect()` is called by hand."""
    made = make(COMPONENT, {"root_path": str(root), "scrapers": scrapers, **options}, id="hostmetrics", host=host)
    made.outputs = {Signal.METRICS: Sink()}
    made.prepare()
    return made


def decoded(payload: bytes) -> ExportMetricsServiceRequest:
    return ExportMetricsServiceRequest.FromString(payload)


def value_of(any_value: Any) -> Any:
    kind = any_value.WhichOneof("value")
    return None if kind is None else getattr(any_value, kind)


def attributes_of(pairs: Any) -> dict[str, Any]:
    return {pair.key: value_of(pair.value) for pair in pairs}


def points(payload: bytes) -> dict[str, dict[tuple[Any, ...], float]]:
    """metric name -> attribute values in order -> value."""
    out: dict[str, dict[tuple[Any, ...], float]] = {}
    for entry in decoded(payload).resource_metrics:
        for scope in entry.scope_metrics:
            for metric in scope.metrics:
                for point in getattr(metric, str(metric.WhichOneof("data"))).data_points:
                    key = tuple(value_of(a.value) for a in point.attributes)
                    out.setdefault(metric.name, {})[key] = getattr(point, point.WhichOneof("value"))
    return out


def read(
    root: Path | str, scrapers: Mapping[str, Any], host: FakeHost | None = None, **options: Any
) -> dict[str, dict[tuple[Any, ...], float]]:
    """One collection's points."""
    batch = receiver(root, scrapers, host, **options).collect()
    return points(batch.payload) if batch else {}


def all_on(scraper: str) -> dict[str, Any]:
    """Options that turn every metric of a scraper on, with all attributes."""
    from kofagent.receivers.hostmetrics.catalog import CATALOG

    return {"metrics": {name: {"enabled": True, "attributes": list(entry.attributes)} for name, entry in CATALOG[scraper].items()}}
