"""The sender of the data being consumed: receivers record the peer of a request, processors may read its address."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from contextvars import ContextVar
from urllib.parse import unquote

sender: ContextVar[Callable[[], str | None] | None] = ContextVar("sender", default=None)
"""Returns the address (aiohttp's `request.remote`, gRPC's `peer()`): a function, because it is rarely needed."""


def sender_address() -> str:
    """The sender's IP address; empty outside of a request, behind a queue or a batch, and for Unix sockets."""
    ask = sender.get()
    return address_of(ask() or "") if ask is not None else ""


def address_of(peer: str) -> str:
    """The address in `10.0.0.1`, `ipv4:10.0.0.1:5000`, `ipv6:[::1]:5000`; IPv4 inside of IPv6 as IPv4. Empty without one."""
    text = unquote(peer)
    if text.startswith(("ipv4:", "ipv6:")):
        text = text[5:].rpartition(":")[0].strip("[]")
    try:
        found = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return ""
    mapped = getattr(found, "ipv4_mapped", None)
    return str(mapped or found)
