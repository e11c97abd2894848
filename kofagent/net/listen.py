"""Listening sockets, and why one cannot be had, in a sentence that says what to do."""

from __future__ import annotations

import errno
import os
import socket
import stat
from typing import Any

from kofagent.component.protocols import StartError
from kofagent.config.address import join_endpoint, split_endpoint
from kofagent.net.os_errors import os_reason

_FAMILIES = {"tcp4": socket.AF_INET, "tcp6": socket.AF_INET6}


def listen_address(id: str, endpoint: str, transport: str = "tcp", option: str = "endpoint") -> tuple[str, int]:
    """Host (an address, or a name that is not localhost) and port to bind; StartError for an endpoint that is not host:port."""
    try:
        host, port = split_endpoint(endpoint)
    except ValueError as error:
        raise StartError(f"{id}: {option} {error}") from None
    if host == "localhost":
        return ("::1" if transport == "tcp6" else "127.0.0.1"), port
    if not host:
        # all interfaces were asked for: an endpoint without a host
        return ("::" if transport == "tcp6" else "0.0.0.0"), port  # noqa: S104
    return host, port


def listen(id: str, host: str, port: int, *, transport: str = "tcp", option: str = "endpoint", backlog: int = 128) -> socket.socket:
    """A listening TCP socket; StartError that says why not, and what to change in `option`."""
    where = f"{id}: cannot listen on {join_endpoint(host, port)}"
    listener, address = _made(where, host, port, _FAMILIES.get(transport, socket.AF_UNSPEC), socket.SOCK_STREAM, option)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if listener.family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0 if host == "::" else 1)
        listener.bind(address)
        listener.listen(backlog)
        listener.setblocking(False)
    except OSError as error:
        listener.close()
        raise StartError(f"{where}: {bind_problem(error, option)}") from None
    return listener


def _made(where: str, host: str, port: int, family: int, kind: int, option: str) -> tuple[socket.socket, Any]:
    """A socket for an address of the host, and the address; StartError, which begins with `where`."""
    try:
        found = socket.getaddrinfo(host, port, family, kind, flags=socket.AI_PASSIVE)
    except UnicodeError:
        raise StartError(f"{where}: not a valid host name; check the host of {option}") from None
    except OSError as error:
        raise StartError(f"{where}: {os_reason(error)}; check the host of {option}") from None
    its_family, its_kind, protocol, _, address = found[0]
    return socket.socket(its_family, its_kind, protocol), address


def listen_datagrams(id: str, host: str, port: int, option: str = "endpoint", buffer_size: int = 0) -> socket.socket:
    """A bound UDP socket that does not block; StartError as `listen`. `buffer_size`: bytes that may wait in it; 0: the default."""
    where = f"{id}: cannot listen on {join_endpoint(host, port)} (UDP)"
    bound, address = _made(where, host, port, socket.AF_UNSPEC, socket.SOCK_DGRAM, option)
    try:
        if buffer_size:
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, min(buffer_size, (1 << 31) - 1))
        bound.bind(address)
        bound.setblocking(False)
    except OSError as error:
        bound.close()
        raise StartError(f"{where}: {bind_problem(error, option)}") from None
    return bound


def listen_unix(id: str, path: str, backlog: int = 128) -> socket.socket:
    """A listening Unix socket in place of a stale one; StartError."""
    remove_stale_socket(path)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        listener.bind(path)
        listener.listen(backlog)
        listener.setblocking(False)
    except OSError as error:
        listener.close()
        raise StartError(f"{id}: cannot listen on unix socket {path}: {os_reason(error)}") from None
    return listener


def bind_problem(error: OSError, option: str = "endpoint") -> str:
    """Why a port could not be bound, and what to do."""
    if error.errno == errno.EADDRINUSE:
        return f"the port is in use by another process; stop that one or choose another port in {option}"
    if error.errno in (errno.EACCES, errno.EPERM):
        return "not permitted; choose a port above 1023"
    if error.errno == errno.EADDRNOTAVAIL:
        return f"this machine does not have that address; check the host of {option}"
    return os_reason(error)


def remove_stale_socket(path: str) -> None:
    """Removes what an earlier process left; another kind of file stays and makes binding fail."""
    try:
        if stat.S_ISSOCK(os.stat(path).st_mode):
            os.unlink(path)
    except OSError:
        pass
