"""Every scraper on a host in a directory: the values are worked out by hand from the files in `support.FILES`."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.receivers.hostmetrics.support import add_process, all_on, attributes_of, build, decoded, points, read, receiver
from tests.support.components import FakeHost

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
TICK = os.sysconf("SC_CLK_TCK") if hasattr(os, "sysconf") else 100
PAGE = os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else 4096


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("HOST_PROC", "HOST_SYS", "HOST_ETC", "HOST_DEV", "HOST_PROC_MOUNTINFO"):
        monkeypatch.delenv(name, raising=False)
    return build(tmp_path)


def test_cpu_adds_up_over_cpus_by_default(root: Path) -> None:
    got = read(root, {"cpu": None})
    assert got["system.cpu.logical.count"] == {(): 2} and len(got) == 2
    assert got["system.cpu.time"] == pytest.approx(
        {
            ("user",): 300 / TICK,
            ("nice",): 30 / TICK,
            ("system",): 60 / TICK,
            ("idle",): 6000 / TICK,
            ("wait",): 12 / TICK,
            ("interrupt",): 3 / TICK,
            ("softirq",): 6 / TICK,
            ("steal",): 9 / TICK,
        }
    )


def test_cpu_per_cpu_and_the_rest(root: Path) -> None:
    got = read(root, {"cpu": all_on("cpu")})
    assert got["system.cpu.time"]["cpu1", "user"] == 200 / TICK and len(got["system.cpu.time"]) == 16
    assert got["system.cpu.physical.count"] == {(): 2}
    assert got["system.cpu.frequency"] == {("cpu0",): 2400.5e6, ("cpu1",): 1200e6}
    assert "system.cpu.utilization" not in got


def test_cpu_utilization_needs_two_collections(root: Path) -> None:
    made = receiver(root, {"cpu": {"metrics": {"system.cpu.utilization": {"enabled": True, "attributes": ["cpu", "state"]}}}})
    made.collect()
    stat = (root / "proc/stat").read_text()
    (root / "proc/stat").write_text(stat.replace("cpu0 100 10 20 2000", "cpu0 130 10 30 2060"))
    got = points(made.collect().payload)["system.cpu.utilization"]
    assert got["cpu0", "user"] == pytest.approx(0.3) and got["cpu0", "system"] == pytest.approx(0.1)
    assert got["cpu0", "idle"] == pytest.approx(0.6) and got["cpu1", "user"] == 0


def test_utilization_is_averaged_over_cpus_by_default(root: Path) -> None:
    made = receiver(root, {"cpu": {"metrics": {"system.cpu.utilization": {"enabled": True}}}})
    made.collect()
    stat = (root / "proc/stat").read_text()
    (root / "proc/stat").write_text(stat.replace("cpu0 100 10 20 2000", "cpu0 150 10 20 2050"))
    got = points(made.collect().payload)["system.cpu.utilization"]
    assert got["user",] == pytest.approx(0.25) and got["idle",] == pytest.approx(0.25)


def test_disk(root: Path) -> None:
    got = read(
        root,
        {
            "disk": {
                "include": {"match_type": "regexp", "devices": ["^sd"]},
                "exclude": {"match_type": "strict", "devices": ["sda1"]},
            }
        },
    )
    assert got == {
        "system.disk.io": {("sda", "read"): 20 * 512, ("sda", "write"): 50 * 512},
        "system.disk.operations": {("sda", "read"): 10, ("sda", "write"): 40},
        "system.disk.operation_time": {("sda", "read"): 0.3, ("sda", "write"): 0.6},
        "system.disk.merged": {("sda", "read"): 1, ("sda", "write"): 4},
        "system.disk.io_time": {("sda",): 0.8},
        "system.disk.weighted_io_time": {("sda",): 0.9},
        "system.disk.pending_operations": {("sda",): 7},
    }


def test_disk_without_lists_has_every_device(root: Path) -> None:
    assert set(read(root, {"disk": {}})["system.disk.io_time"]) == {("sda",), ("sda1",)}  # loop0 was never used


def test_filesystem_real_ones_only(root: Path) -> None:
    got = read(root, {"filesystem": all_on("filesystem")})
    stat = os.statvfs(root)
    identity = ("/dev/sda1", "rw", "/", "ext4")
    assert {k[:4] for k in got["system.filesystem.usage"]} == {identity, ("/dev/sdb1", "ro", "/data disk", "ext4")}
    usage = {k[4]: v for k, v in got["system.filesystem.usage"].items() if k[:4] == identity}
    assert sum(usage.values()) == stat.f_blocks * stat.f_frsize and set(usage) == {"used", "free", "reserved"}
    inodes = {k[4]: v for k, v in got["system.filesystem.inodes.usage"].items() if k[:4] == identity}
    assert sum(inodes.values()) == stat.f_files
    assert 0 <= got["system.filesystem.utilization"][identity] <= 1


def test_filesystem_virtual_and_filters(root: Path) -> None:
    got = read(root, {"filesystem": {"include_virtual_filesystems": True}})
    assert {k[2] for k in got["system.filesystem.usage"]} == {"/", "/data disk", "/run", "/srv"}
    got = read(
        root,
        {
            "filesystem": {
                "include_virtual_filesystems": True,
                "exclude_fs_types": {"match_type": "strict", "fs_types": ["tmpfs"]},
                "exclude_mount_points": {"match_type": "regexp", "mount_points": ["^/s"]},
            }
        },
    )
    assert {k[2] for k in got["system.filesystem.usage"]} == {"/", "/data disk"}
    got = read(root, {"filesystem": {"include_devices": {"match_type": "strict", "devices": ["/dev/sdb1"]}}})
    assert {k[2] for k in got["system.filesystem.usage"]} == {"/data disk"}


def test_filesystem_a_mount_that_is_gone_leaves_the_others(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    (root / "data disk").rmdir()
    made = receiver(root, {"filesystem": {}})
    for _ in range(2):
        got = points(made.collect().payload)
    assert {k[2] for k in got["system.filesystem.usage"]} == {"/"}
    assert len([r for r in caplog.records if "usage of a mount" in r.message]) == 1


def test_load(root: Path) -> None:
    assert read(root, {"load": {}}) == {
        "system.cpu.load_average.1m": {(): 0.5},
        "system.cpu.load_average.5m": {(): 1.0},
        "system.cpu.load_average.15m": {(): 2.0},
    }
    assert read(root, {"load": {"cpu_average": True}})["system.cpu.load_average.15m"] == {(): 1.0}


def test_memory(root: Path) -> None:
    k = 1024
    got = read(root, {"memory": all_on("memory")})
    assert got["system.memory.usage"] == {
        ("used",): 600 * k,
        ("free",): 100 * k,
        ("buffered",): 50 * k,
        ("cached",): 230 * k,
        ("slab_reclaimable",): 30 * k,
        ("slab_unreclaimable",): 20 * k,
    }
    assert got["system.memory.utilization"]["used",] == 0.6
    assert got["system.memory.limit"] == {(): 1000 * k} and got["system.memory.page_size"] == {(): PAGE}
    assert got["system.linux.memory.available"] == {(): 400 * k} and got["system.linux.memory.dirty"] == {(): 7 * k}
    assert got["system.memory.linux.shared"] == {(): 11 * k}
    huge = "system.memory.linux.hugepages."
    assert got[huge + "usage"] == {("free",): 4, ("used",): 6} and got[huge + "utilization"] == {("free",): 0.4, ("used",): 0.6}
    assert [got[huge + n][()] for n in ("limit", "page_size", "reserved", "surplus")] == [10, 2048 * k, 1, 2]
    assert set(read(root, {"memory": {}})) == {"system.memory.usage"}


def test_network(root: Path) -> None:
    got = read(root, {"network": {**all_on("network"), "exclude": {"match_type": "strict", "interfaces": ["lo"]}}})
    assert got["system.network.io"] == {("eth0", "transmit"): 1000, ("eth0", "receive"): 2000}
    assert got["system.network.packets"] == {("eth0", "transmit"): 10, ("eth0", "receive"): 20}
    assert got["system.network.errors"] == {("eth0", "transmit"): 5, ("eth0", "receive"): 3}
    assert got["system.network.dropped"] == {("eth0", "transmit"): 6, ("eth0", "receive"): 4}
    connections = got["system.network.connections"]
    assert len(connections) == 12 and all(k[0] == "tcp" for k in connections)
    assert {k[1]: v for k, v in connections.items() if v} == {"LISTEN": 1, "ESTABLISHED": 1, "FIN_WAIT_1": 1}
    assert got["system.network.conntrack.count"] == {(): 17} and got["system.network.conntrack.max"] == {(): 65536}


def test_network_partly_readable_sends_the_rest_and_counts(root: Path) -> None:
    (root / "proc/net/dev").unlink()
    host = FakeHost()
    got = read(root, {"network": {}}, host)
    assert set(got) == {"system.network.connections"}
    labels = {"receiver": "hostmetrics", "scraper": "network"}
    assert host.ledger.total("otelcol_scraper_errored_metric_points_total", **labels) == 4
    assert host.ledger.total("otelcol_scraper_scraped_metric_points_total", **labels) == 12


def test_paging(root: Path) -> None:
    got = read(root, {"paging": all_on("paging")})
    assert got["system.paging.usage"] == {("/dev/sda2", "used"): 250 * 1024, ("/dev/sda2", "free"): 750 * 1024}
    assert got["system.paging.utilization"] == {("/dev/sda2", "used"): 0.25, ("/dev/sda2", "free"): 0.75}
    assert got["system.paging.operations"] == {
        ("page_in", "major"): 3,
        ("page_out", "major"): 4,
        ("page_in", "minor"): 100,
        ("page_out", "minor"): 200,
    }
    assert got["system.paging.faults"] == {("major",): 10, ("minor",): 990}


def test_nfs(root: Path) -> None:
    got = read(root, {"nfs": {}})
    assert got["nfs.client.net.count"] == {("udp",): 1, ("tcp",): 9}
    assert got["nfs.client.rpc.retransmit.count"] == {(): 3}
    assert got["nfs.client.procedure.count"][3, "COMMIT"] == 21 and got["nfs.client.operation.count"] == {
        (4, "NULL"): 0,
        (4, "READ"): 5,
        (4, "WRITE"): 6,
    }
    assert got["nfs.server.repcache.requests"] == {("hit",): 1, ("miss",): 2, ("nocache",): 3}
    assert got["nfs.server.io"] == {("receive",): 500, ("transmit",): 600}
    assert got["nfs.server.rpc.count"] == {("format",): 1, ("auth",): 2, ("client",): 3}
    assert got["nfs.server.operation.count"] == {(4, "ACCESS"): 11, (4, "CLOSE"): 12}
    assert got["nfs.server.procedure.count"] == {(4, "NULL"): 7, (4, "COMPOUND"): 9}
    assert got["nfs.server.thread.count"] == {(): 8}


def test_nfs_absent_is_no_error(root: Path) -> None:
    for name in ("nfs", "nfsd"):
        (root / f"proc/net/rpc/{name}").unlink()
    host = FakeHost()
    assert read(root, {"nfs": {}}, host) == {}
    assert host.ledger.total("otelcol_scraper_errored_metric_points_total", receiver="hostmetrics", scraper="nfs") == 0


def test_system_and_processes(root: Path) -> None:
    (root / "proc/1/stat").write_text("1 (init) S 0 1 1")
    add_process(root, 20, state="Z")
    add_process(root, 21, state="S")
    add_process(root, 22, comm=") R (", state="T")
    add_process(root, 23, state="X")
    got = read(root, {"system": {}, "processes": {}})
    assert got["system.uptime"] == {(): 1234.56} and got["system.processes.created"] == {(): 4242}
    assert got["system.processes.count"] == {
        ("sleeping",): 2,
        ("zombies",): 1,
        ("stopped",): 1,
        ("unknown",): 1,
        ("running",): 3,
        ("blocked",): 1,
    }


def test_process(root: Path) -> None:
    add_process(root, 42)
    batch = receiver(root, {"process": all_on("process")}).collect()
    (entry,) = decoded(batch.payload).resource_metrics
    assert attributes_of(entry.resource.attributes) == {
        "process.pid": 42,
        "process.parent_pid": 1,
        "process.executable.name": "web (x)",
        "process.executable.path": "/usr/bin/web",
        "process.command": "/usr/bin/web",
        "process.command_line": "/usr/bin/web --port 80",
        "process.owner": "web",
    }
    got = points(batch.payload)
    assert got["process.cpu.time"] == {("user",): 150 / TICK, ("system",): 50 / TICK, ("wait",): 25 / TICK}
    assert got["process.memory.usage"] == {(): 2 * PAGE} and got["process.memory.virtual"] == {(): 2 * PAGE}
    assert got["process.memory.utilization"] == {(): 100 * 2 * PAGE / (1000 * 1024)}
    assert got["process.disk.io"] == {("read",): 1000, ("write",): 2000}
    assert got["process.disk.operations"] == {("read",): 30, ("write",): 40}
    assert got["process.context_switches"] == {("involuntary",): 6, ("voluntary",): 20}
    assert got["process.paging.faults"] == {("major",): 8, ("minor",): 700}
    assert got["process.threads"] == {(): 3} and got["process.open_file_descriptors"] == {(): 4}
    assert got["process.signals_pending"] == {(): 2}
    start = {
        p.start_time_unix_nano for m in entry.scope_metrics[0].metrics for p in getattr(m, str(m.WhichOneof("data"))).data_points
    }
    assert start == {1700000000 * 10**9 + 5000 * (10**9 // TICK)}
    assert batch.count == sum(len(p) for p in got.values())


def test_process_cpu_utilization_of_one_process(root: Path) -> None:
    path = add_process(root, 42)
    made = receiver(root, {"process": {"metrics": {"process.cpu.utilization": {"enabled": True}}}})
    assert "process.cpu.utilization" not in points(made.collect().payload)
    stat = (path / "stat").read_text()
    (path / "stat").write_text(stat.replace(" 150 50 ", " 150 60 "))
    got = points(made.collect().payload)["process.cpu.utilization"]
    assert got["user",] == 0 and got["system",] > 0


def test_process_names_filter_and_resource_attributes(root: Path) -> None:
    add_process(root, 42, comm="web")
    add_process(root, 43, comm="fifteen-charact", cmdline=b"/opt/fifteen-characters-and-more\0")
    options = {
        "include": {"match_type": "strict", "names": ["fifteen-characters-and-more"]},
        "resource_attributes": {"process.cgroup": {"enabled": True}, "process.owner": {"enabled": False}},
    }
    batch = receiver(root, {"process": options}).collect()
    (entry,) = decoded(batch.payload).resource_metrics
    got = attributes_of(entry.resource.attributes)
    assert got["process.executable.name"] == "fifteen-characters-and-more" and "process.owner" not in got
    assert got["process.cgroup"] == "0::/system.slice/web.service"


def test_process_metrics_include_by_resource_attribute(root: Path) -> None:
    add_process(root, 42)
    add_process(root, 43, uid=0)
    rule = {"process.owner": {"metrics_exclude": [{"strict": "root"}]}}
    batch = receiver(root, {"process": {"resource_attributes": rule}}).collect()
    assert [attributes_of(e.resource.attributes)["process.pid"] for e in decoded(batch.payload).resource_metrics] == [42]


def test_process_another_title_is_another_identity(root: Path) -> None:
    path = add_process(root, 42)
    made = receiver(root, {"process": {}})
    made.collect()
    (path / "cmdline").write_bytes(b"web: worker\0")
    (entry,) = decoded(made.collect().payload).resource_metrics
    assert attributes_of(entry.resource.attributes)["process.command_line"] == "web: worker"


def test_identities_of_ended_processes_are_forgotten(root: Path) -> None:
    made = receiver(root, {"process": {}})
    scraper = made._scrapers[0][1].__self__
    for pid in range(100, 120):
        path = add_process(root, pid)
        made.collect()
        shutil.rmtree(path)
    made.collect()
    assert scraper._identities == {} and scraper._cpu_before == {}


@pytest.mark.parametrize("gone", ["stat", "cmdline", "io", "status"])
def test_process_that_ends_while_it_is_read(root: Path, gone: str) -> None:
    add_process(root, 41)
    path = add_process(root, 42)
    (path / gone).unlink()
    host = FakeHost()
    batch = receiver(root, {"process": {}}, host).collect()
    assert [attributes_of(e.resource.attributes)["process.pid"] for e in decoded(batch.payload).resource_metrics] == [41]
    assert len(points(batch.payload)["process.cpu.time"]) == 3
    assert host.ledger.total("otelcol_scraper_errored_metric_points_total", receiver="hostmetrics", scraper="process") == 0


@pytest.mark.parametrize("muted", [False, True])
def test_process_unreadable_values_leave_the_rest(root: Path, muted: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    add_process(root, 42)
    real = os.readlink

    def refuse(path: str) -> str:
        if path.endswith("/exe"):
            raise PermissionError(13, "Permission denied")
        return real(path)

    monkeypatch.setattr("os.readlink", refuse)
    host = FakeHost()
    batch = receiver(root, {"process": {"mute_process_exe_error": muted}}, host).collect()
    (entry,) = decoded(batch.payload).resource_metrics
    assert attributes_of(entry.resource.attributes)["process.executable.path"] == ""
    errored = host.ledger.total("otelcol_scraper_errored_metric_points_total", receiver="hostmetrics", scraper="process")
    assert errored == (0 if muted else 1)


@pytest.mark.parametrize("file", ["stat", "cmdline", "status"])
@pytest.mark.parametrize("muted", [False, True])
def test_a_process_whose_name_may_not_be_read(root: Path, file: str, muted: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    add_process(root, 42)
    real = open

    def refuse(path: str, *args: Any, **options: Any) -> Any:
        if str(path).endswith(f"/42/{file}"):
            raise PermissionError(13, "Permission denied", path)
        return real(path, *args, **options)

    monkeypatch.setattr("builtins.open", refuse)
    host = FakeHost()
    batch = receiver(root, {"process": {"mute_process_name_error": muted}}, host).collect()
    assert batch is None or not decoded(batch.payload).resource_metrics
    errored = host.ledger.total("otelcol_scraper_errored_metric_points_total", receiver="hostmetrics", scraper="process")
    assert errored == (0 if muted and file != "status" else 1)


def test_kernel_thread_has_no_executable_and_that_is_no_error(root: Path) -> None:
    path = add_process(root, 42, comm="kworker/0:1", cmdline=b"", uid=0)
    (path / "exe").unlink()
    host = FakeHost()
    batch = receiver(root, {"process": {}}, host).collect()
    (entry,) = decoded(batch.payload).resource_metrics
    assert attributes_of(entry.resource.attributes)["process.owner"] == "root"
    assert host.ledger.total("otelcol_scraper_errored_metric_points_total", receiver="hostmetrics", scraper="process") == 0


def test_young_processes_wait(root: Path) -> None:
    add_process(root, 42)
    assert read(root, {"process": {"scrape_process_delay": "1h"}})  # started in 2023
    uptime = (10**9) * TICK  # starts in the far future
    add_process(root, 43, start=uptime)
    batch = receiver(root, {"process": {"scrape_process_delay": "1s"}}).collect()
    assert len(decoded(batch.payload).resource_metrics) == 1


def test_environment_wins_over_root_path(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = tmp_path / "elsewhere"
    other.mkdir()
    (other / "loadavg").write_text("9 8 7 1/2 3")
    (other / "stat").write_text("btime 5\n")
    monkeypatch.setenv("HOST_PROC", str(other))
    assert read(root, {"load": {}})["system.cpu.load_average.1m"] == {(): 9.0}


def test_start_time_is_the_boot(root: Path) -> None:
    batch = receiver(root, {"load": {}, "cpu": {}}).collect()
    starts = {
        p.start_time_unix_nano
        for e in decoded(batch.payload).resource_metrics
        for s in e.scope_metrics
        for m in s.metrics
        for p in getattr(m, str(m.WhichOneof("data"))).data_points
    }
    assert starts == {1700000000 * 10**9}


def test_broken_files_are_counted_and_others_go_on(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    (root / "proc/meminfo").write_text("nonsense")
    (root / "proc/loadavg").write_text("x y z")
    (root / "proc/swaps").write_text("")
    (root / "proc/diskstats").write_text("8 0 sda a b c d e f g h i j k\n")
    host = FakeHost()
    made = receiver(root, {"memory": {}, "load": {}, "disk": {}, "system": {}, "paging": {}}, host)
    for _ in range(3):
        got = points(made.collect().payload)
    assert set(got) == {"system.uptime", "system.paging.faults", "system.paging.operations"}
    for scraper, errored in (("memory", 3), ("load", 3), ("disk", 3), ("paging", 6), ("system", 0)):
        assert host.ledger.total("otelcol_scraper_errored_metric_points_total", receiver="hostmetrics", scraper=scraper) == errored
    assert len([r for r in caplog.records if "scraper memory" in r.getMessage()]) == 1
