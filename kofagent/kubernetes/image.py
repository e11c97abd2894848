"""Names of container images (grammar: github.com/distribution/reference) and ids of containers, the same for all components."""

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


_ID = re.compile(r"[A-Za-z0-9_+.-]+:[0-9a-fA-F]{32,}", re.ASCII)
"""An image by nothing but its digest."""
_SCHEME = re.compile(r"[\w-]+://", re.ASCII)


def image_of(status: str, spec: str) -> tuple[str, str] | None:
    """As `split_image`, of a container whose status says `status` and whose pod asks for `spec`.

    The status says what runs, with its registry. Where it has only a digest (containerd does that for an image that several
    names have had), name and tag are those that were asked for.
    """
    named = _ID.fullmatch(status) is None
    if (not named or ("@" in status and ":" not in status.partition("@")[0].rpartition("/")[2])) and split_image(spec) is not None:
        return split_image(spec)
    return split_image(status) if named else None


def container_id(text: str) -> str:
    """A container's id without its runtime (`containerd://`); empty when it was not made yet."""
    match = _SCHEME.match(text)
    return (text[match.end() :] if match else text).strip()


split_image = Memo("kubernetes.images", _split, entries=2048, size=2 << 20).__getitem__
"""(repository, tag) of `registry:5000/team/app:1.2@sha256:...`; the tag is `latest` if it is not given. None when it is no image
name."""
