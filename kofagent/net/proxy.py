"""Which proxy the environment names for a URL, by the rules of Go's net/http, which client-go and the collector follow.

HTTPS_PROXY or HTTP_PROXY by the URL's scheme (upper case wins), unless NO_PROXY lists the host: `*`, an address, a network
(10.0.0.0/8), a domain with all below it (`example.com`), only what is below it (`.example.com`, `*.example.com`), each also with
`:port`. localhost and loopback addresses are never proxied.
"""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Mapping

from yarl import URL

_PORTS = {"http": 80, "https": 443}


def environment_proxy(url: str, environ: Mapping[str, str] | None = None) -> str | None:
    """The proxy's URL, None for a direct connection; ValueError for one that is not http or https. `environ` None: the process'."""
    environ = os.environ if environ is None else environ
    target = URL(url)
    host, port = (target.host or "").lower().rstrip("."), target.port or _PORTS.get(target.scheme, 0)
    variable = f"{target.scheme.upper()}_PROXY"
    if variable == "HTTP_PROXY" and "REQUEST_METHOD" in environ:
        return None  # a CGI program: the variable is a header of its client
    proxy = environ.get(variable) or environ.get(variable.lower()) or ""
    if not proxy or _is_direct(host, port, environ.get("NO_PROXY") or environ.get("no_proxy") or ""):
        return None
    if "://" not in proxy:
        proxy = f"http://{proxy}"
    if not proxy.startswith(("http://", "https://")) or not URL(proxy).host:
        raise ValueError(f"{variable} is not the URL of an http or https proxy; list {host} in NO_PROXY to connect directly")
    return proxy


def _is_direct(host: str, port: int, no_proxy: str) -> bool:
    address = _address(host)
    if host == "localhost" or (address is not None and address.is_loopback):
        return True
    return any(_matches(entry.strip().lower(), host, address, port) for entry in no_proxy.split(","))


def _matches(entry: str, host: str, address: ipaddress.IPv4Address | ipaddress.IPv6Address | None, port: int) -> bool:
    if not entry or entry == "*":
        return entry == "*"
    if "/" in entry:
        try:
            return address is not None and address in ipaddress.ip_network(entry, strict=False)
        except ValueError:
            return False
    name, colon, wanted = entry.rpartition(":")
    if colon and wanted.isdigit() and (":" not in name or name.startswith("[")):
        if int(wanted) != port:
            return False
        entry = name
    entry = entry.strip("[]")
    listed = _address(entry)
    if listed is not None:
        return listed == address
    below = entry.removeprefix("*")
    if below.startswith("."):
        return host.endswith(below)
    return host == entry or host.endswith(f".{entry}")


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None
