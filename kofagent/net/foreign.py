"""Requests that a browser sends to this machine's loopback for a page of somebody else.

A page may make its own name resolve to 127.0.0.1 (DNS rebinding) and then read what listens there; the header `Host` still has that
name. Or it sends without reading the answer; the header `Origin` has where it comes from. Loopback listeners answer neither.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Mapping
from urllib.parse import urlsplit

_MOST = 64


def is_loopback(host: str) -> bool:
    """Whether a name or an address is this machine's loopback for everybody."""
    host = host.strip("[]").rstrip(".").lower()
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host.partition("%")[0]).is_loopback
    except ValueError:
        return False


def _host_of(url: str) -> str:
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""


def _not_rebound(host: str) -> bool:
    """Whether a Host cannot be a name that somebody else owns: an address, or a name without a dot, which no public DNS has."""
    name = _host_of(f"//{host}").rstrip(".") if host else "localhost"
    if "@" in host or not name:
        return False
    if "." not in name or is_loopback(name):
        return True
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


class Loopback:
    """What a loopback listener answers. `allowed` says which origins the user lets in besides (`cors.allowed_origins`)."""

    def __init__(self, allowed: Callable[[str], bool]) -> None:
        self._allowed = allowed
        self._hosts: set[str] = set()

    def foreign(self, headers: Mapping[str, str]) -> str:
        """Why a request is not answered; empty for one that is."""
        # hot: otlp_http_span, what was asked before is one look into a set
        host = headers.get("Host", "")
        if host not in self._hosts:
            if not (_not_rebound(host) or self._allowed(f"http://{host}") or self._allowed(f"https://{host}")):
                return "the Host of the request is no name of this machine's loopback"
            if len(self._hosts) < _MOST:
                self._hosts.add(host)
        origin = headers.get("Origin")
        if origin is None or self._allowed(origin) or is_loopback(_host_of(origin)):
            return ""
        return "the request comes from a page of another origin"
