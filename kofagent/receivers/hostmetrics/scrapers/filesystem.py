"""filesystem: space and inodes of what is mounted, from /proc/1/mountinfo and statvfs(3).

Without `include_virtual_filesystems` only types that have a device (/proc/filesystems without `nodev`, and zfs) count, and
bind mounts do not. A mount point is reported as the host sees it; with `root_path` it is read under that path.
"""

from __future__ import annotations

import os
import re
from typing import NamedTuple

from kofagent.receivers.hostmetrics.config import FilesystemOptions, wanted
from kofagent.receivers.hostmetrics.recorder import Recorder
from kofagent.receivers.hostmetrics.roots import Roots, ratio, read_text
from kofagent.receivers.hostmetrics.scrapers import LINUX, Round, Scrape


class Mount(NamedTuple):
    """One mounted file system; `mode` is rw, ro or unknown."""

    device: str
    mount_point: str
    type: str
    mode: str


def scraper(options: FilesystemOptions, roots: Roots) -> Scrape:
    """A mount that cannot be read is counted, logged once and skipped."""
    device = wanted(options.include_devices, options.exclude_devices)
    kind = wanted(options.include_fs_types, options.exclude_fs_types)
    point = wanted(options.include_mount_points, options.exclude_mount_points)

    def scrape(out: Recorder, round: Round) -> None:
        mounts = linux_mounts(roots, options.include_virtual_filesystems) if LINUX else _psutil_mounts(options)
        seen = set()
        for mount in mounts:
            if (mount.mount_point, mount.device) in seen:
                continue
            seen.add((mount.mount_point, mount.device))
            if (device and not device(mount.device)) or (kind and not kind(mount.type)) or (point and not point(mount.mount_point)):
                continue
            path = _under(roots, mount.mount_point)
            try:
                _record(out, mount, path)
            except OSError as error:
                # Upstream counts no points for a mount, only for a collection without any.
                out.failed(0, "cannot read the usage of a mount", f"{path}: {error.strerror}")

    return scrape


def _under(roots: Roots, mount_point: str) -> str:
    if not roots.root or roots.mountinfo or (mount_point + "/").startswith(roots.root + "/"):
        return mount_point
    return roots.root + mount_point


def _record(out: Recorder, mount: Mount, path: str) -> None:
    if hasattr(os, "statvfs"):
        s = os.statvfs(path)
        block = s.f_frsize or s.f_bsize
        total, free, used = s.f_blocks * block, s.f_bavail * block, (s.f_blocks - s.f_bfree) * block
        inodes_free, inodes_used = s.f_ffree, max(s.f_files - s.f_ffree, 0)
    else:
        import psutil

        usage = psutil.disk_usage(path)
        total, free, used, inodes_free, inodes_used = usage.total, usage.free, usage.used, 0, 0
    identity = (mount.device, mount.mode, mount.mount_point, mount.type)
    out.add("system.filesystem.usage", used, *identity, "used")
    out.add("system.filesystem.usage", free, *identity, "free")
    out.add("system.filesystem.usage", total - used - free, *identity, "reserved")
    if used + free:
        out.add("system.filesystem.utilization", ratio(used, used + free), *identity)
    if hasattr(os, "statvfs"):
        out.add("system.filesystem.inodes.usage", inodes_used, *identity, "used")
        out.add("system.filesystem.inodes.usage", inodes_free, *identity, "free")


def linux_mounts(roots: Roots, virtual: bool) -> list[Mount]:
    """The mounts of the host's first process, or of our own where that one may not be read. OSError, ValueError."""
    types = _types_with_device(roots)
    first_device: dict[str, str] = {}
    mounts = []
    for line in _mountinfo(roots).splitlines():
        # proc_pid_mountinfo(5): 36 35 98:0 /root /mount rw,noatime shared:1 - ext3 /dev/root rw,errors=continue
        left, dash, right = line.partition(" - ")
        before, after = left.split(" "), right.split(" ")
        if not dash or len(before) < 6 or len(after) < 2:
            raise ValueError("a line of mountinfo has too few columns")
        number, root, mount_point, options = before[2:6]
        type, source = after[:2]
        super_options = after[2].split(",") if len(after) > 2 else []
        if not virtual and type not in types:
            continue
        device = source if source.startswith("/") or root == "/" else root
        device = first_device.setdefault(number, device)
        subvolume = f"subvol={root}" in super_options
        if not virtual and source.startswith("/") and root != "/" and not subvolume:
            continue  # a bind mount shows the same blocks again
        mounts.append(
            Mount(
                _real_device(roots, _unescape(device), number),
                _unescape(mount_point),
                type,
                _mode(options.split(","), super_options),
            )
        )
    return mounts


def _mountinfo(roots: Roots) -> str:
    if roots.mountinfo:
        return read_text(roots.mountinfo)
    try:
        return roots.read_proc("1/mountinfo")
    except (PermissionError, FileNotFoundError):
        return roots.read_proc("self/mountinfo")


def _types_with_device(roots: Roots) -> set[str]:
    types = {"zfs"}
    for line in roots.read_proc("filesystems").splitlines():
        flag, _, name = line.partition("\t")
        if flag != "nodev" and name:
            types.add(name.strip())
    return types


def _mode(mount: list[str], super: list[str]) -> str:
    """A mount can be written to only when it and its file system are rw."""
    if "ro" in mount or "ro" in super:
        return "ro"
    return "rw" if "rw" in mount or "rw" in super else "unknown"


def _real_device(roots: Roots, device: str, number: str) -> str:
    if device.startswith("/dev/mapper/"):
        path = roots.dev + device.removeprefix("/dev")
        real = os.path.realpath(path)
        return "/dev" + real.removeprefix(roots.dev) if real.startswith(roots.dev + "/") and os.path.exists(real) else device
    if device == "/dev/root":
        try:
            return "/dev/" + os.path.basename(os.readlink(f"{roots.sys}/dev/block/{number}"))
        except OSError:
            return device
    return device


def _unescape(text: str) -> str:
    r"""mountinfo writes space, tab, newline and backslash as \ooo."""
    return re.sub(r"\\([0-7]{3})", lambda m: chr(int(m[1], 8)), text) if "\\" in text else text


def _psutil_mounts(options: FilesystemOptions) -> list[Mount]:
    import psutil

    return [
        Mount(p.device, p.mountpoint, p.fstype, _mode(p.opts.split(","), []))
        for p in psutil.disk_partitions(all=options.include_virtual_filesystems)
    ]
