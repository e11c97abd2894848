"""What is sent of a server's certificate: who issued it, for which names, and how long it is valid."""

from __future__ import annotations

import ssl
from collections.abc import Iterable
from typing import NamedTuple

from kofagent.net.timing import Certificate

_LONGEST, _MOST = 500, 100
"""Characters of an attribute, alternative names that are sent."""
_ORDER = {
    "serialNumber": "SERIALNUMBER",
    "commonName": "CN",
    "postalCode": "POSTALCODE",
    "streetAddress": "STREET",
    "stateOrProvinceName": "ST",
    "localityName": "L",
    "organizationalUnitName": "OU",
    "organizationName": "O",
    "countryName": "C",
}
"""The parts of a name that Go writes, in its order."""
_KINDS = ("IP Address", "URI", "DNS", "email")


class Seen(NamedTuple):
    """`not_after`: Unix seconds."""

    issuer: str
    name: str
    alternatives: list[str]
    not_after: float


def seen(certificate: Certificate) -> Seen | None:
    """None for a certificate that says nothing of itself."""
    names = _parts(certificate.get("subject", ()))
    issuer = _parts(certificate.get("issuer", ()))
    written = ",".join("+".join(f"{_ORDER[key]}={_escaped(v)}" for v in issuer[key]) for key in _ORDER if key in issuer)
    alternatives = certificate.get("subjectAltName", ())
    listed = [value[:_LONGEST] for kind in _KINDS for what, value in alternatives if what == kind][:_MOST]
    name = names.get("commonName", [""])[-1]
    if not (written or name or listed) or "notAfter" not in certificate:
        return None
    return Seen(written[:_LONGEST], name[:_LONGEST], listed, ssl.cert_time_to_seconds(certificate["notAfter"]))


def _parts(name: Iterable[Iterable[tuple[str, str]]]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for group in name:
        for key, value in group:
            found.setdefault(key, []).append(value)
    return found


def _escaped(value: str) -> str:
    """RFC 2253, section 2.4."""
    out = "".join(f"\\{c}" if c in ',+"\\<>;' else c for c in value)
    if out[:1] in ("#", " "):
        out = f"\\{out}"
    return f"{out[:-1]}\\ " if out.endswith(" ") and len(value) > 1 else out
