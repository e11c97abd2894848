"""The detector `gcp`: Compute Engine, Kubernetes Engine, Cloud Run, Cloud Functions and App Engine, by the metadata server.

Upstream: processor/resourcedetectionprocessor/internal/gcp. https://cloud.google.com/compute/docs/metadata/predefined-metadata-keys
"""

from __future__ import annotations

import os
import re
from collections.abc import Awaitable, Callable
from typing import Any

from kofagent.processors.resourcedetection.blocks import GcpBlock, matching
from kofagent.processors.resourcedetection.servers import Server, Unavailable
from kofagent.wire.foreign_json import read_json

ADDRESS = "169.254.169.254"
COMPUTE = "https://compute.googleapis.com"
_FLAVOR = {"Metadata-Flavor": "Google"}
_MANAGED_BY = re.compile("projects/[^/]+/(zone|region)s/([^/]+)/instanceGroupManagers/([^/]+)")

Fetch = Callable[[str, dict[str, str]], Awaitable[bytes]]
"""GETs a URL of the internet with these headers: the body of a 200, else Unavailable."""


async def detect(options: GcpBlock, fetch: Fetch) -> dict[str, Any]:
    """The attributes of the platform. Unavailable where there is no metadata server of Google's."""
    host = os.environ.get("GCE_METADATA_HOST") or ADDRESS
    async with Server("the Google metadata server", f"http://{host}") as server:
        project = await server.value("/computeMetadata/v1/project/project-id", _FLAVOR)
        if project.headers.get("Metadata-Flavor") != "Google":
            raise Unavailable("the server of metadata is not Google's")
        out = {"cloud.provider": "gcp", "cloud.account.id": project.text}
        out.update(await _Platform(server).attributes())
        if options.labels and out.get("cloud.platform") == "gcp_compute_engine":
            out.update(matching(options.labels, await _labels(server, project.text, fetch), "gcp.gce.instance.labels."))
        return out


class _Platform:
    """What runs this process, by its environment, and what the metadata server says of it."""

    def __init__(self, server: Server) -> None:
        self._server = server

    async def attributes(self) -> dict[str, Any]:
        environ = os.environ
        location = await self._maybe("instance/attributes/cluster-location") if "KUBERNETES_SERVICE_HOST" in environ else None
        if location:
            return {
                "cloud.platform": "gcp_kubernetes_engine",
                **_place(location),
                "k8s.cluster.name": await self._maybe("instance/attributes/cluster-name"),
                "host.id": await self._maybe("instance/id"),
                "host.name": await self._maybe("instance/name"),
            }
        if "FUNCTION_TARGET" in environ:
            return await self._serverless("gcp_cloud_functions", environ.get("K_SERVICE"), environ.get("K_REVISION"))
        if "K_CONFIGURATION" in environ:
            return await self._serverless("gcp_cloud_run", environ.get("K_SERVICE"), environ.get("K_REVISION"))
        if "CLOUD_RUN_JOB" in environ:
            return {
                **await self._serverless("gcp_cloud_run", environ["CLOUD_RUN_JOB"], None),
                "gcp.cloud_run.job.execution": environ.get("CLOUD_RUN_EXECUTION"),
                "gcp.cloud_run.job.task_index": environ.get("CLOUD_RUN_TASK_INDEX"),
            }
        if "CLOUD_RUN_WORKER_POOL" in environ:
            pool, revision = environ["CLOUD_RUN_WORKER_POOL"], environ.get("CLOUD_RUN_WORKER_POOL_REVISION")
            return await self._serverless("gcp_cloud_run", pool, revision)
        if "GAE_SERVICE" in environ:
            return await self._app_engine()
        return await self._compute_engine()

    async def _maybe(self, key: str) -> str | None:
        """A value; None where the server has none."""
        said = await self._server.ask(f"/computeMetadata/v1/{key}", _FLAVOR)
        return said.text if said.status == 200 else None

    async def _zone(self) -> str:
        """`europe-west1-b`, of `projects/NUMBER/zones/europe-west1-b`."""
        return (await self._maybe("instance/zone") or "").rpartition("/")[2]

    async def _serverless(self, platform: str, name: str | None, version: str | None) -> dict[str, Any]:
        return {
            "cloud.platform": platform,
            "cloud.region": (await self._maybe("instance/region") or "").rpartition("/")[2],
            "faas.instance": await self._maybe("instance/id"),
            "faas.name": name,
            "faas.version": version,
        }

    async def _app_engine(self) -> dict[str, Any]:
        zone = await self._zone()
        out = {**_place(zone), "cloud.availability_zone": zone}
        if os.environ.get("GAE_ENV") == "standard":
            out["cloud.region"] = (await self._maybe("instance/region") or "").rpartition("/")[2]
        return {
            "cloud.platform": "gcp_app_engine",
            **out,
            "faas.name": os.environ.get("GAE_SERVICE"),
            "faas.version": os.environ.get("GAE_VERSION"),
            "faas.instance": os.environ.get("GAE_INSTANCE"),
        }

    async def _compute_engine(self) -> dict[str, Any]:
        kind = await self._maybe("instance/machine-type")
        if kind is None:
            return {}
        name = await self._maybe("instance/name")
        zone = await self._zone()
        out = {
            "cloud.platform": "gcp_compute_engine",
            **_place(zone),
            "cloud.availability_zone": zone,
            "host.type": kind,
            "host.id": await self._maybe("instance/id"),
            "host.name": name,
            "gcp.gce.instance.name": name,
            "gcp.gce.instance.hostname": await self._maybe("instance/hostname"),
        }
        group = _MANAGED_BY.fullmatch(await self._maybe("instance/attributes/created-by") or "")
        if group:
            out["gcp.gce.instance_group_manager.name"] = group[3]
            out[f"gcp.gce.instance_group_manager.{group[1]}"] = group[2]
        return out


def _place(location: str) -> dict[str, str]:
    """Zone and region of `europe-west1-b`, the region of `europe-west1`."""
    parts = location.split("-")
    if len(parts) == 2:
        return {"cloud.region": location}
    return {"cloud.availability_zone": location, "cloud.region": "-".join(parts[:2])} if len(parts) == 3 else {}


async def _labels(server: Server, project: str, fetch: Fetch) -> dict[str, str]:
    """The instance's labels, from the Compute Engine API, as the instance's service account."""
    path = "/computeMetadata/v1/instance"
    token = (await server.value(f"{path}/service-accounts/default/token", _FLAVOR)).json(server.name).get("access_token")
    zone = (await server.value(f"{path}/zone", _FLAVOR)).text.rpartition("/")[2]
    name = (await server.value(f"{path}/name", _FLAVOR)).text
    url = f"{COMPUTE}/compute/v1/projects/{project}/zones/{zone}/instances/{name}"
    try:
        labels = read_json(await fetch(url, {"Authorization": f"Bearer {token}"})).get("labels") or {}
        return {str(key): str(value) for key, value in labels.items()}
    except (ValueError, AttributeError):
        raise Unavailable("the Compute Engine API answered something that is not an instance") from None
