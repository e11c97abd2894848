"""Addresses, URLs and flows."""

from __future__ import annotations

import base64
import hashlib
import ipaddress
import re
import struct
from collections.abc import Callable
from typing import Any
from urllib.parse import quote, unquote

from kofagent.ottl.errors import EvaluationError
from kofagent.ottl.functions.core import converter


def _network(text: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
    if "/" not in text:
        raise EvaluationError("not a network, such as 10.0.0.0/8")
    try:
        return ipaddress.ip_network(text, strict=False)
    except ValueError:
        raise EvaluationError("not a network, such as 10.0.0.0/8") from None


def _networks(networks: list[str] | None = None, **_: Any) -> None:
    for text in networks or ():
        _network(text)


@converter("IsInCIDR(target S, networks [S])", check=_networks)
def is_in_cidr(target: str, networks: list[str]) -> bool:
    """Whether an address lies in one of the networks; false for what is no address."""
    found = [_network(text) for text in networks]
    try:
        address = ipaddress.ip_address(target)
    except ValueError:
        return False
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    return any(address.version == network.version and address in network for network in found)


_PROTOCOLS = {"ICMP": 1, "TCP": 6, "UDP": 17, "RSVP": 46, "ICMP6": 58, "SCTP": 132}


@converter('CommunityID(source_i_p S, source_port I, destination_i_p S, destination_port I, protocol? S="TCP", seed? I=0)')
def community_id(source: str, source_port: int, destination: str, destination_port: int, protocol: str, seed: int) -> str:
    """The Community ID of a flow, version 1."""
    if protocol not in _PROTOCOLS:
        raise EvaluationError(f"CommunityID: unknown protocol; known: {', '.join(_PROTOCOLS)}")
    if not 0 <= seed <= 0xFFFF:
        raise EvaluationError("CommunityID: the seed is 0 to 65535")
    ends = []
    for address, port in ((source, source_port), (destination, destination_port)):
        if not 1 <= port <= 0xFFFF:
            raise EvaluationError("CommunityID: a port is 1 to 65535")
        try:
            ends.append((ipaddress.ip_address(address).packed, port))
        except ValueError:
            raise EvaluationError("CommunityID: not an address") from None
    ends.sort()
    (low, low_port), (high, high_port) = ends
    data = struct.pack("!H", seed) + low + high + struct.pack("!BBHH", _PROTOCOLS[protocol], 0, low_port, high_port)
    return "1:" + base64.b64encode(hashlib.sha1(data, usedforsecurity=False).digest()).decode()


_URL = re.compile(
    r"(?:(?P<scheme>[a-zA-Z][a-zA-Z0-9+.\-]*):)?(?://(?P<authority>[^/?#]*))?(?P<path>[^?#]*)(?:\?(?P<query>[^#]*))?(?:#(?P<fragment>.*))?",
    re.DOTALL,
)


@converter("URL(url S)")
def url(text: str) -> dict[str, Any]:
    """The parts of a URL under the names of the semantic conventions."""
    match = _URL.fullmatch(text)
    if not text or match is None or re.search(r"[\x00-\x20\x7f]", text) or re.search(r"%(?![0-9a-fA-F]{2})", match["path"]):
        raise EvaluationError("not a URL")
    found: dict[str, Any] = {"url.original": _escaped(text, match["path"])}
    if match["scheme"] and match["authority"] is None and not match["path"].startswith("/"):
        return {**found, "url.scheme": match["scheme"].lower(), "url.domain": "", "url.path": ""}  # opaque, as mailto:a
    user, _, host = (match["authority"] or "").rpartition("@")
    name, port = _host(host)
    for key, value in (
        ("url.scheme", (match["scheme"] or "").lower()),
        ("url.domain", name),
        ("url.path", unquote(match["path"])),
        ("url.query", match["query"]),
        ("url.fragment", unquote(match["fragment"] or "")),
    ):
        if value or key in ("url.domain", "url.path", "url.scheme"):
            found[key] = value
    if port is not None:
        found["url.port"] = port
    last = match["path"].rpartition("/")[2]
    if "." in last[:-1] or last.endswith("."):
        extension = last.rpartition(".")[2]
        if extension:
            found["url.extension"] = extension
    if user:
        found["url.user_info"] = user
        found["url.username"], colon, password = user.partition(":")
        if colon:
            found["url.password"] = password
    return found


def _escaped(text: str, path: str) -> str:
    """The URL as Go writes it again: its path is escaped, and the scheme in small letters."""
    scheme, colon, rest = text.partition(":")
    if colon and scheme.isascii() and scheme.isalnum():
        text = f"{scheme.lower()}:{rest}"
    text = text.removesuffix("#")
    if not path.isascii():
        text = text.replace(path, quote(path, safe="/%:@!$&'()*+,;=-._~"), 1)
    return text


def _host(host: str) -> tuple[str, int | None]:
    match = re.fullmatch(r"(\[[0-9a-fA-F:.%]+\]|[^:]*)(?::([0-9]*))?", host)
    if match is None or (match[2] and (len(match[2]) > 5 or int(match[2]) > 0xFFFF)):
        raise EvaluationError("not a URL")
    return match[1].strip("[]"), int(match[2]) if match[2] else None


def _user_agents(**_: Any) -> Callable[[str], Any]:
    """The parser; its tables are read when the statement is built. EvaluationError without the package."""
    try:
        from ua_parser import parse
    except ImportError:
        raise EvaluationError("it needs the package ua-parser: pip install 'kofagent[ottl]'") from None
    parse("")
    return parse


@converter("UserAgent(user_agent S)", check=_user_agents)
def user_agent(text: str) -> dict[str, Any]:
    """Program and system that a User-Agent header names."""
    found = _user_agents()(text[:2048])
    agent, system = found.user_agent, found.os
    version = [p for p in (agent.major, agent.minor, agent.patch) if p] if agent else []
    result: dict[str, Any] = {
        "user_agent.original": text,
        "user_agent.name": agent.family if agent else "Other",
        "user_agent.version": ".".join(version),
        "os.name": system.family if system else "Other",
    }
    os_version = [p for p in (system.major, system.minor, system.patch) if p] if system else []
    if os_version:
        result["os.version"] = ".".join(os_version)
    return result
