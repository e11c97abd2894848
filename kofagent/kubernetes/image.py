"""Names of container images. Grammar: github.com/distribution/reference."""

from __future__ import annotations

import functools
import re

_LABEL = r"[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?"
_DOMAIN = rf"(?:{_LABEL}(?:\.{_LABEL})*|\[[a-fA-F0-9:]+\])(?::[0-9]+)?"
_PART = r"[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*"
_IMAGE = re.compile(
    rf"((?:{_DOMAIN}/)?{_PART}(?:/{_PART})*)(?::(\w[\w.-]{{0,127}}))?"
    r"(?:@[A-Za-z][A-Za-z0-9]*(?:[-_+.][A-Za-z][A-Za-z0-9]*)*:[0-9a-fA-F]{32,})?",
    re.ASCII,
)


@functools.lru_cache(1024)
def split_image(image: str) -> tuple[str, str] | None:
    """(repository, tag) of `registry:5000/team/app:1.2@sha256:...`; the tag is `latest` where there is none.

    None when it is no image name.
    """
    match = _IMAGE.fullmatch(image) if 0 < len(image) <= 1024 else None
    if match is None or len(match[1]) > 255:
        return None
    return match[1], match[2] or "latest"
