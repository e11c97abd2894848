"""Names of TLS cipher suites as Go spells them, and whether OpenSSL has them."""

from __future__ import annotations

import ssl
from collections.abc import Sequence

TLS_1_3 = frozenset(("TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256"))
"""Suites of TLS 1.3, which are always on: they may be listed, as upstream, and choose nothing."""


def openssl_ciphers(suites: Sequence[str]) -> str:
    """The TLS 1.2 suites of a list as OpenSSL writes them."""
    return ":".join(_openssl_name(suite) for suite in suites if suite not in TLS_1_3)


def check_suites(suites: Sequence[str]) -> None:
    """ValueError that names the suites which OpenSSL does not have, or says that none is of TLS 1.2."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    unknown = []
    for suite in suites:
        if suite not in TLS_1_3:
            try:
                context.set_ciphers(_openssl_name(suite))
            except ssl.SSLError:
                unknown.append(suite)
    if unknown:
        raise ValueError(f"{', '.join(unknown)}: unknown cipher suite{'s' if len(unknown) > 1 else ''}")
    if suites and TLS_1_3.issuperset(suites):
        raise ValueError("names no suite of TLS 1.2, and those of TLS 1.3 are always on; write min_version: '1.3' instead")


def _openssl_name(name: str) -> str:
    """OpenSSL's name of a TLS 1.2 suite in Go's spelling: TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256."""
    if not name.startswith("TLS_") or "_WITH_" not in name:
        return name
    exchange, cipher = name[4:].split("_WITH_", 1)
    cipher = cipher.replace("AES_128", "AES128").replace("AES_256", "AES256").replace("_CBC", "")
    cipher = cipher.replace("CHACHA20_POLY1305_SHA256", "CHACHA20-POLY1305")
    prefix = "" if exchange == "RSA" else exchange.replace("_", "-") + "-"
    return prefix + cipher.replace("_", "-")
