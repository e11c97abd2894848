"""The system detector: host.* and os.* of this machine.

`host.name` comes from the first source that answers: `dns` is the fully qualified name by the hosts file, the canonical name or
a reverse look-up; `os` the kernel's; `cname` the canonical name; `lookup` a reverse lookup of the machine's addresses.
"""

from __future__ import annotations

import os
import platform
import socket
import sys
from collections.abc import Callable, Mapping
from typing import Any

from kofagent.processors.resourcedetection.blocks import SystemBlock

ARCHITECTURES = {
    "x86_64": "amd64",
    "amd64": "amd64",
    "aarch64": "arm64",
    "arm64": "arm64",
    "armv6l": "arm32",
    "armv7l": "arm32",
    "armv8l": "arm32",
    "i386": "x86",
    "i686": "x86",
    "ppc64le": "ppc64",
    "ppc64": "ppc64",
    "s390x": "s390x",
}
SYSTEMS = {"win32": "windows", "cygwin": "windows", "sunos5": "solaris"}


def detect(options: SystemBlock, left: Callable[[], bool] = lambda: True) -> dict[str, Any]:
    """The attributes that are enabled and known; OSError where no source has the host's name.

    `left()` is False when the time is over: sources that ask the network are skipped then.
    """
    on = options.enabled()
    out: dict[str, Any] = {}
    if "host.name" in on:
        out["host.name"] = host_name(options.hostname_sources or ["dns", "os"], left)
    for names, read in _READERS:
        if on.intersection(names):
            out.update({name: value for name, value in read().items() if name in on and value not in (None, "", [])})
    return out


def host_name(sources: list[str], left: Callable[[], bool]) -> str:
    """The name of the first source that has one."""
    for source in sources:
        if source != "os" and not left():
            continue
        try:
            name = _SOURCES[source]()
        except OSError:
            continue
        if name:
            return name
    raise OSError(f"none of the hostname_sources {', '.join(sources)} has a name; add os")


def _os_name() -> str:
    return socket.gethostname()


def _dns() -> str:
    return in_hosts_file(socket.gethostname(), _read("/etc/hosts")) or _cname() or _lookup()


def in_hosts_file(host: str, text: str) -> str:
    """The first name of the first line of a hosts file that has `host`; empty without one."""
    for line in text.splitlines():
        names = line.partition("#")[0].split()[1:]
        if host in names:
            return names[0]
    return ""


def _cname() -> str:
    answers = socket.getaddrinfo(socket.gethostname(), None, type=socket.SOCK_STREAM, flags=socket.AI_CANONNAME)
    return next((name for *_, name, _ in answers if name), "").rstrip(".")


def _lookup() -> str:
    error: OSError | None = None
    for address in dict.fromkeys(str(a[4][0]) for a in socket.getaddrinfo(socket.gethostname(), None, type=socket.SOCK_STREAM)):
        try:
            return socket.gethostbyaddr(address)[0].rstrip(".")
        except OSError as raised:
            error = raised
    raise error or OSError("the host's name has no address")


_SOURCES = {"os": _os_name, "dns": _dns, "cname": _cname, "lookup": _lookup}


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except OSError:
        return ""


def _os() -> dict[str, Any]:
    release = os_release(_read("/etc/os-release") or _read("/usr/lib/os-release"))
    uname = platform.uname()
    kernel = " ".join((uname.system, uname.node, uname.release, uname.version, uname.machine))
    pretty = release.get("PRETTY_NAME") or " ".join(x for x in (release.get("NAME"), release.get("VERSION")) if x)
    return {
        "os.type": SYSTEMS.get(sys.platform, sys.platform.rstrip("0123456789")),
        "os.name": release.get("NAME") or uname.system,
        "os.version": release.get("VERSION_ID") or uname.release,
        "os.build.id": release.get("BUILD_ID") or uname.release,
        "os.description": f"{pretty} ({kernel})" if pretty else kernel,
    }


def os_release(text: str) -> dict[str, str]:
    """os-release(5) as a dict."""
    import shlex

    out = {}
    for line in text.splitlines():
        key, equals, value = line.strip().partition("=")
        if equals and not key.startswith("#"):
            try:
                out[key] = "".join(shlex.split(value))
            except ValueError:
                continue  # an unfinished quote
    return out


def _host() -> dict[str, Any]:
    machine = platform.machine().lower()
    return {"host.id": _machine_id(), "host.arch": ARCHITECTURES.get(machine, machine)}


def _machine_id() -> str:
    for path in ("/etc/machine-id", "/var/lib/dbus/machine-id"):
        text = _read(path).strip()
        if text:
            return text
    if sys.platform == "darwin":
        import re
        import subprocess

        found = subprocess.run(
            ["/usr/sbin/ioreg", "-rd1", "-c", "IOPlatformExpertDevice"], capture_output=True, text=True, timeout=5, check=False
        )
        match = re.search(r'"IOPlatformUUID" = "([^"]+)"', found.stdout)
        return match[1] if match else ""
    if sys.platform == "win32":
        import winreg

        with winreg.OpenKey(winreg.HKEY_LOCAL_MACHINE, r"SOFTWARE\Microsoft\Cryptography") as key:
            return str(winreg.QueryValueEx(key, "MachineGuid")[0])
    return ""


def _network() -> dict[str, Any]:
    import psutil

    up = {name for name, stats in psutil.net_if_stats().items() if stats.isup and "loopback" not in stats.flags.split(",")}
    ips, macs, names = [], [], []
    for name, addresses in psutil.net_if_addrs().items():
        if name not in up:
            continue
        names.append(name)
        for address in addresses:
            if address.family in (socket.AF_INET, socket.AF_INET6):
                ips.append(address.address.partition("%")[0])
            elif address.family == psutil.AF_LINK and address.address.strip("0:-"):
                macs.append(address.address.upper().replace(":", "-"))
    return {"host.ip": ips, "host.mac": macs, "host.interface": names}


def _cpu() -> dict[str, Any]:
    return cpu_attributes(_read(os.environ.get("HOST_PROC", "/proc") + "/cpuinfo"))


def cpu_attributes(cpuinfo: str) -> dict[str, Any]:
    """The first processor of /proc/cpuinfo; the cache size is in KiB as there (and as upstream sends it)."""
    lines = [line.partition(":") for line in cpuinfo.split("\n\n", 1)[0].splitlines()]
    first: Mapping[str, str] = {key.strip(): value.strip() for key, _, value in lines}
    cache = first.get("cache size", "").partition(" ")[0]
    return {
        "host.cpu.vendor.id": first.get("vendor_id"),
        "host.cpu.family": first.get("cpu family"),
        "host.cpu.model.id": first.get("model"),
        "host.cpu.model.name": first.get("model name"),
        "host.cpu.stepping": first.get("stepping"),
        "host.cpu.cache.l2.size": int(cache) if cache.isdigit() else None,
    }


_READERS: tuple[tuple[frozenset[str], Callable[[], dict[str, Any]]], ...] = (
    (frozenset({"os.type", "os.name", "os.version", "os.build.id", "os.description"}), _os),
    (frozenset({"host.id", "host.arch"}), _host),
    (frozenset({"host.ip", "host.mac", "host.interface"}), _network),
    (
        frozenset(
            {
                "host.cpu.vendor.id",
                "host.cpu.family",
                "host.cpu.model.id",
                "host.cpu.model.name",
                "host.cpu.stepping",
                "host.cpu.cache.l2.size",
            }
        ),
        _cpu,
    ),
)
