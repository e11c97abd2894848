"""What a real node changes on its machine, noted before and put back after: kernel settings, addresses, routes, links, mounts,
network namespaces, cgroups, firewall chains and folders. Everything here works from the record alone, so also after a crash."""

from __future__ import annotations

import ctypes
import os
import shlex
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.cluster.record import Record

# set by the kubelet at start, and by the CNI bridge
SYSCTLS = (
    "vm/overcommit_memory",
    "vm/panic_on_oom",
    "kernel/panic",
    "kernel/panic_on_oops",
    "kernel/keys/root_maxkeys",
    "kernel/keys/root_maxbytes",
    "net/ipv4/ip_forward",
)
# may come into being while a node runs; what was there before stays
FOLDERS = (
    "/var/log/pods",
    "/var/log/containers",
    "/var/lib/kubelet",
    "/var/lib/cni",
    "/run/containerd",
    "/run/netns",
    "/var/lib/containerd",
    "/opt/containerd",
    "/usr/libexec/kubernetes",
    "/etc/cni",
)
# emptied of what is new in them, when they were there before
SHARED_FOLDERS = (
    "/var/log/pods",
    "/var/log/containers",
    "/var/lib/cni/results",
    "/var/lib/cni/networks",
    "/run/netns",
    "/run/containerd/s",
    "/run/containerd/fifo",
)
CGROUPS = Path("/sys/fs/cgroup")
CGROUP_NAMES = ("kubepods", "k8s.io")  # of the kubelet and of containerd's namespace
_DETACH = 2


def snapshot() -> dict[str, Any]:
    """What a node may change, as it is now."""
    return {
        "sysctls": {name: _sysctl(name).read_text().strip() for name in SYSCTLS if _sysctl(name).exists()},
        "folders": [path for path in FOLDERS if Path(path).exists()],
        "entries": {path: sorted(os.listdir(path)) for path in SHARED_FOLDERS if Path(path).is_dir()},
        "links": sorted(os.listdir("/sys/class/net")),
        "cgroups": [str(path) for path in _cgroups()],
        "chains": sorted(_chains()),
        "addresses": [],
        "routes": [],
    }


def differences(record: Record) -> list[str]:
    """What `snapshot` sees now that is not as it saw it before the node: nothing, when all was put back."""
    before = record.data["host"]
    if not before or not record.this_boot:
        return []
    now = snapshot()
    return [
        f"{what}: {now[what]!r}, was {before[what]!r}"
        for what in ("sysctls", "folders", "entries", "links", "cgroups", "chains")
        if now[what] != before[what]
    ] + [f"mounted: {point}" for point in mounts_under(str(record.folder))]


def _sysctl(name: str) -> Path:
    return Path("/proc/sys") / name


def run(*command: str, check: bool = True) -> str:
    """The output of a command; RuntimeError with what it said when it fails."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if check and done.returncode:
        raise RuntimeError(f"{' '.join(command)}: {(done.stderr or done.stdout).strip()[-500:]}")
    return done.stdout


def add_address(record: Record, address: str) -> None:
    """An address on the loopback device, unless it has it."""
    if address not in run("ip", "-4", "addr", "show", "dev", "lo"):
        record.data["host"]["addresses"].append(address)
        record.save()
        run("ip", "addr", "add", address, "dev", "lo")


def add_local_range(record: Record, cidr: str) -> None:
    """Makes a whole range of addresses local, so that a program can listen on any of them."""
    if cidr not in run("ip", "route", "show", "table", "local"):
        record.data["host"]["routes"].append(cidr)
        record.save()
        run("ip", "route", "add", "local", cidr, "dev", "lo")


def _cgroups() -> Iterator[Path]:
    """The cgroups of pods, one per hierarchy (v1) or one (v2)."""
    for root in (CGROUPS, *(path for path in CGROUPS.glob("*") if path.is_dir() and not path.is_symlink())):
        for name in CGROUP_NAMES:
            if (root / name).is_dir():
                yield root / name


def _new_cgroups(before: dict[str, Any]) -> list[Path]:
    return [path for path in _cgroups() if str(path) not in before["cgroups"]]


def kill_containers(record: Record, socket: str) -> None:
    """Ends every process in pods' cgroups and the shims of this containerd."""
    groups = _new_cgroups(record.data["host"])
    deadline = time.monotonic() + 15
    while time.monotonic() < deadline:
        pids = _members(groups) | _shims(socket)
        if not pids:
            return
        for pid in pids:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        time.sleep(0.1)
    raise RuntimeError(f"containers that do not end: processes {sorted(_members(groups) | _shims(socket))}")


def _members(groups: list[Path]) -> set[int]:
    found: set[int] = set()
    for group in groups:
        for folder, _, _ in os.walk(group):  # which, other than rglob, passes over what is removed meanwhile
            try:
                found.update(int(line) for line in (Path(folder) / "cgroup.procs").read_text().split())
            except OSError:
                continue
    return found


def _shims(socket: str) -> set[int]:
    found = set()
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            words = (entry / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if b"containerd-shim" in words[0] and socket.encode() in words:
            found.add(int(entry.name))
    return found


def mounts_under(*folders: str) -> list[str]:
    """Mount points in these folders, the innermost first."""
    points = [line.split()[4].replace("\\040", " ") for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    inside = [point for point in points if any(point == folder or point.startswith(folder + "/") for folder in folders)]
    return sorted(inside, key=len, reverse=True)


def unmount(*folders: str) -> None:
    """Unmounts everything in these folders; RuntimeError when something stays, because removing files there could hit another disk."""
    libc = ctypes.CDLL(None, use_errno=True)
    for _ in range(10):
        points = mounts_under(*folders)
        if not points:
            return
        for point in points:
            libc.umount2(os.fsencode(point), _DETACH)
    raise RuntimeError(f"still mounted: {mounts_under(*folders)}")


def remove_tree(path: Path) -> None:
    """Removes a folder that has no mount in it."""
    if mounts_under(str(path)):
        raise RuntimeError(f"{path} has mounts in it: {mounts_under(str(path))}")
    shutil.rmtree(path, ignore_errors=True)


def _chains() -> set[str]:
    """Chains of the nat and filter tables."""
    found = set()
    for table in ("nat", "filter"):
        done = (
            subprocess.run(["iptables", "-w", "-t", table, "-S"], capture_output=True, text=True, check=False)
            if shutil.which("iptables")
            else None
        )
        for line in done.stdout.splitlines() if done is not None and not done.returncode else []:
            if line.startswith("-N "):
                found.add(f"{table} {line[3:].strip()}")
    return found


def _remove_chains(before: set[str]) -> None:
    """Removes the CNI plugins' chains that are new, and the rules that jump to them."""
    new = {chain for chain in _chains() - before if chain.split()[1].startswith("CNI-")}
    for table in {chain.split()[0] for chain in new}:
        names = {chain.split()[1] for chain in new if chain.startswith(table + " ")}
        for line in run("iptables", "-w", "-t", table, "-S", check=False).splitlines():
            words = shlex.split(line)
            if words[0] == "-A" and words[1] not in names and names.intersection(words):
                subprocess.run(["iptables", "-w", "-t", table, "-D", *words[1:]], capture_output=True, check=False)
        for action in ("-F", "-X"):
            for name in names:
                run("iptables", "-w", "-t", table, action, name, check=False)


def restore(record: Record) -> None:
    """Puts back what `snapshot` saw. The programs and containers are gone by now."""
    before = record.data["host"]
    if not before:
        return
    if record.this_boot:
        _restore_kernel(before)
    for path, entries in before["entries"].items():
        for name in sorted(set(os.listdir(path)) - set(entries)) if Path(path).is_dir() else []:
            found = Path(path) / name
            remove_tree(found) if found.is_dir() and not found.is_symlink() else found.unlink(missing_ok=True)
    for path in FOLDERS:
        if path not in before["folders"] and Path(path).exists():
            unmount(path)
            remove_tree(Path(path))


def _restore_kernel(before: dict[str, Any]) -> None:
    spaces = [f"/run/netns/{name}" for name in os.listdir("/run/netns")] if Path("/run/netns").is_dir() else []
    unmount(*(path for path in spaces if Path(path).name not in before["entries"].get("/run/netns", [])))
    for link in sorted(set(os.listdir("/sys/class/net")) - set(before["links"])):
        if link.startswith(("veth", "kofagent")):
            run("ip", "link", "del", link, check=False)  # one end of a pair takes the other with it
    for address in before["addresses"]:
        run("ip", "addr", "del", address, "dev", "lo", check=False)
    for cidr in before["routes"]:
        run("ip", "route", "del", "local", cidr, "dev", "lo", check=False)
    _remove_chains(set(before["chains"]))
    for name, value in before["sysctls"].items():
        if _sysctl(name).read_text().strip() != value:
            _sysctl(name).write_text(value)
    for group in _new_cgroups(before):
        for folder, _, _ in os.walk(group, topdown=False):
            for _ in range(20):
                try:
                    os.rmdir(folder)
                    break
                except FileNotFoundError:
                    break
                except OSError:  # its last process is not reaped yet
                    time.sleep(0.05)
