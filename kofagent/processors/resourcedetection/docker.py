"""The detector `docker`: the host's name and system, and what container this is, from the Docker daemon at `DOCKER_HOST`.

Upstream: processor/resourcedetectionprocessor/internal/docker. https://docs.docker.com/reference/api/engine/
"""

from __future__ import annotations

import os
import socket
from typing import Any
from urllib.parse import quote

from kofagent.processors.resourcedetection.blocks import DockerBlock
from kofagent.processors.resourcedetection.servers import Server, Unavailable

SOCKET = "unix:///var/run/docker.sock"


def _server() -> Server:
    """The daemon. Unavailable for a DOCKER_HOST that is neither a socket nor plain TCP."""
    where = os.environ.get("DOCKER_HOST") or SOCKET
    scheme, _, place = where.partition("://")
    if scheme == "unix":
        return Server("the Docker daemon", "http://docker", unix=place)
    if scheme in ("tcp", "http") and not os.environ.get("DOCKER_TLS_VERIFY"):
        return Server("the Docker daemon", f"http://{place}")
    raise Unavailable("DOCKER_HOST must be unix:///path or tcp://host:port without TLS")


async def detect(options: DockerBlock) -> dict[str, Any]:
    """The attributes. Unavailable where the daemon does not answer."""
    wanted = options.enabled()
    async with _server() as server:
        info = (await server.value("/info")).json(server.name)
        out = {"host.name": info.get("Name"), "os.type": info.get("OSType")}
        if any(name.startswith("container.") for name in wanted):
            this = (await server.value(f"/containers/{quote(socket.gethostname(), safe='')}/json")).json(server.name)
            config = this.get("Config")
            out["container.name"] = this.get("Name")
            out["container.image.id"] = out["container.image.name"] = this.get("Image")
            image = config.get("Image") if isinstance(config, dict) else None
            out["container.image.tags"] = _tags(str(image or ""))
        return out


def _tags(image: str) -> list[str]:
    """The tag of `registry:5000/name:tag@sha256:...`, `latest` where a name has neither tag nor digest."""
    name, at, _ = image.partition("@")
    tag = name.rpartition("/")[2].partition(":")[2]
    return [tag] if tag else [] if at or not image else ["latest"]
