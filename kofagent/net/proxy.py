"""Which proxy a request goes through, by the rules of Go's httpproxy package, which client-go and the collector follow.

HTTPS_PROXY or HTTP_PROXY by the URL's scheme (upper case wins), unless NO_PROXY lists the host: `*`, an address, a network
(10.0.0.0/8), a domain with all below it (`example.com`), only what is below it (`.example.com`, `*.example.com`). Addresses and
domains may end in `:port`. localhost and loopback addresses are never proxied. Prometheus' `no_proxy` option has the same rules.
"""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Mapping

from yarl import URL

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
_PORTS = {"http": 80, "https": 443}


def environment_proxy(url: str, environ: Mapping[str, str] | None = None) -> str | None:
    """The proxy's URL, None for a direct connection; ValueError for one that is not http or https. `environ` None: the process'."""
    environ = os.environ if environ is None else environ
    target = URL(url)
    variable = f"{target.scheme.upper()}_PROXY"
    if target.scheme not in _PORTS or (variable == "HTTP_PROXY" and environ.get("REQUEST_METHOD")):
        return None  # a CGI program: the variable is a header of its client
    proxy = environ.get(variable) or environ.get(variable.lower()) or ""
    if not proxy or is_direct(environ.get("NO_PROXY") or environ.get("no_proxy") or "", target):
        return None
    if "://" not in proxy:
        proxy = f"http://{proxy}"
    if not proxy.startswith(("http://", "https://")) or not URL(proxy).host:
        raise ValueError(f"{variable} is not the URL of an http or https proxy; list {target.host} in NO_PROXY to connect directly")
    return proxy


def is_direct(no_proxy: str, target: URL) -> bool:
    """Whether a list in NO_PROXY's form exempts a URL from the proxy. Entries that cannot be read are ignored, as Go does."""
    host, port = (target.raw_host or "").lower(), target.port or _PORTS.get(target.scheme, 0)
    address = _address(host)
    if host == "localhost" or (address is not None and address.is_loopback):
        return True
    return any(_matches(entry.strip().lower(), host, address, port) for entry in no_proxy.split(","))


def _matches(entry: str, host: str, address: Address | None, port: int) -> bool:
    if not entry or entry == "*":
        return entry == "*"
    network = _network(entry)
    if network is not None:
        return address is not None and address in network
    name, colon, wanted = entry.rpartition(":")
    if colon and (":" not in name or (name.startswith("[") and name.endswith("]"))):
        entry = name.removeprefix("[").removesuffix("]")
        if wanted and wanted != str(port):
            return False
    listed = _address(entry)
    if address is not None or listed is not None:
        return address == listed
    domain = _ascii(entry.removeprefix("*") if entry.startswith("*.") else entry)
    if domain.startswith("."):
        return host.endswith(domain)
    return bool(domain) and (host == domain or host.endswith(f".{domain}"))


def _ascii(domain: str) -> str:
    """A domain as it is asked of name servers; as it stands when that is not possible."""
    if domain.isascii():
        return domain
    dot = "." if domain.startswith(".") else ""
    try:
        return dot + (URL.build(scheme="http", host=domain.strip(".")).raw_host or "")
    except ValueError:
        return domain


def _network(text: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network | None:
    address, slash, length = text.partition("/")
    try:
        return ipaddress.ip_network(f"{address}/{length}", strict=False) if slash and length.isdecimal() else None
    except ValueError:
        return None


def _address(text: str) -> Address | None:
    try:
        found = ipaddress.ip_address(text)
    except ValueError:
        return None
    return getattr(found, "ipv4_mapped", None) or found
