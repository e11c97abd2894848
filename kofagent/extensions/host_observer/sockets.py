"""Sockets and their processes, from /proc."""

from __future__ import annotations

import os
import re
import socket
import struct
from collections.abc import Iterator
from ipaddress import ip_address
from typing import NamedTuple

_TABLES = (("tcp", "TCP", False), ("tcp6", "TCP", True), ("udp", "UDP", False), ("udp6", "UDP", True))
_LISTENS = "0A"
"""State of a TCP socket that listens."""
_INODE = re.compile(r"socket:\[(\d+)\]")
_COMMAND_BYTES = 32768
"""As much of a command line is read."""


class Socket(NamedTuple):
    """A port that somebody listens on."""

    address: str
    port: int
    transport: str
    v6: bool
    inode: str


class Process(NamedTuple):
    """Who listens; pid 0 and empty texts where that is not known."""

    pid: int = 0
    name: str = ""
    command: str = ""


def listening(proc: str = "/proc") -> list[Socket]:
    """All ports that are listened on. OSError when /proc cannot be read."""
    out = []
    for table, transport, v6 in _TABLES:
        try:
            with open(f"{proc}/net/{table}", encoding="ascii") as file:
                next(file, None)
                out += [found for line in file if (found := _socket(line, transport, v6)) is not None]
        except FileNotFoundError:
            if table == "tcp":
                raise
    return out


def _socket(line: str, transport: str, v6: bool) -> Socket | None:
    parts = line.split()
    if len(parts) < 10:
        return None
    local, remote, state, inode = parts[1], parts[2], parts[3], parts[9]
    if transport == "TCP" and state != _LISTENS:
        return None
    if transport == "UDP" and remote.rpartition(":")[2] != "0000":
        return None
    address, _, port = local.rpartition(":")
    return Socket(_address(address, v6), int(port, 16), transport, v6, inode)


def _address(text: str, v6: bool) -> str:
    """The kernel writes 32-bit words in its own order of bytes."""
    words = [int(text[at : at + 8], 16) for at in range(0, len(text), 8)]
    packed = struct.pack(f"={len(words)}I", *words)
    return str(ip_address(packed)) if v6 else socket.inet_ntoa(packed)


def owners(inodes: set[str], proc: str = "/proc") -> dict[str, list[Process]]:
    """The processes that hold these sockets, as far as the agent may see."""
    out: dict[str, list[Process]] = {}
    for pid in _pids(proc):
        held: set[str] = set()
        try:
            with os.scandir(f"{proc}/{pid}/fd") as entries:
                for entry in entries:
                    if (match := _INODE.match(_link(entry.path))) and match[1] in inodes:
                        held.add(match[1])
            if held:
                process = Process(pid, _text(f"{proc}/{pid}/comm").strip(), _command(f"{proc}/{pid}/cmdline"))
                for inode in held:
                    out.setdefault(inode, []).append(process)
        except OSError:
            continue  # it has ended, or is somebody else's
    return out


def _pids(proc: str) -> Iterator[int]:
    with os.scandir(proc) as entries:
        yield from sorted(int(entry.name) for entry in entries if entry.name.isdecimal())


def _link(path: str) -> str:
    try:
        return os.readlink(path)
    except OSError:
        return ""


def _text(path: str) -> str:
    with open(path, "rb") as file:
        return file.read(_COMMAND_BYTES).decode("utf-8", "replace")


def _command(path: str) -> str:
    """The arguments, separated by spaces."""
    return _text(path).rstrip("\0").replace("\0", " ")
