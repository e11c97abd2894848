"""What names of container images say (grammar: github.com/distribution/reference)."""

from __future__ import annotations

import re

from kofagent.kubernetes.image import split_image

_DIGEST = re.compile(r"@([A-Za-z][A-Za-z0-9]*(?:[-_+.][A-Za-z][A-Za-z0-9]*)*:[0-9a-fA-F]{32,})$")
_TAG = re.compile(r":(\w[\w.-]{0,127})$", re.ASCII)


def service_version(image: str) -> str:
    """`tag@digest`, whichever of both the image has; empty without any, or where it is no image name."""
    if split_image(image) is None:
        return ""
    digest = _DIGEST.search(image)
    name = image[: digest.start()] if digest else image
    tag = _TAG.search(name.rpartition("/")[2])
    return "@".join([found[1] for found in (tag, digest) if found])


def repo_digest(image_id: str) -> str:
    """`registry/repository@sha256:...` of a status' imageID, Docker's defaults written out; empty without a repository."""
    digest = _DIGEST.search(image_id)
    if digest is None:
        return ""
    name = image_id[: digest.start()]
    domain, slash, rest = name.partition("/")
    if not slash or not ("." in domain or ":" in domain or domain == "localhost" or domain != domain.lower()):
        domain, rest = "docker.io", name
    if domain == "index.docker.io":
        domain = "docker.io"
    if domain == "docker.io" and "/" not in rest:
        rest = f"library/{rest}"
    whole = f"{domain}/{rest}{digest[0]}"
    return whole if split_image(whole) is not None else ""
