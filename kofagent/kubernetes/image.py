"""Names of container images. Grammar: github.com/distribution/reference."""

from __future__ import annotations

import re

from kofagent.memory.memo import Memo

_LABEL = r"[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?"
_DOMAIN = rf"(?:{_LABEL}(?:\.{_LABEL})*|\[[a-fA-F0-9:]+\])(?::[0-9]+)?"
_PART = r"[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*"
_IMAGE = re.compile(
    rf"((?:{_DOMAIN}/)?{_PART}(?:/{_PART})*)(?::(\w[\w.-]{{0,127}}))?"
    r"(?:@[A-Za-z][A-Za-z0-9]*(?:[-_+.][A-Za-z][A-Za-z0-9]*)*:[0-9a-fA-F]{32,})?",
    re.ASCII,
)


def _split(image: str) -> tuple[str, str] | None:
    match = _IMAGE.fullmatch(image) if 0 < len(image) <= 1024 else None
    if match is None or len(match[1]) > 255:
        return None
    return match[1], match[2] or "latest"


split_image = Memo("kubernetes.images", _split, entries=2048, size=2 << 20).__getitem__
"""(repository, tag) of `registry:5000/team/app:1.2@sha256:...`; the tag is `latest` if it is not given. None when it is no image
name."""
