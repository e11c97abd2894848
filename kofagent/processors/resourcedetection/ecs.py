"""The detector `ecs`: the task and its containers, from the task metadata endpoint (version 4 or 3).

ECS names it in the environment. Upstream: processor/resourcedetectionprocessor/internal/aws/ecs.
"""

from __future__ import annotations

import os
from typing import Any

from yarl import URL

from kofagent.processors.resourcedetection.servers import Server, Unavailable

VARIABLES = ("ECS_CONTAINER_METADATA_URI_V4", "ECS_CONTAINER_METADATA_URI")


async def detect() -> dict[str, Any]:
    """The attributes of this task; empty outside of ECS. Unavailable where the endpoint does not answer."""
    endpoint = next((value for name in VARIABLES if (value := os.environ.get(name, "").strip())), "")
    if not endpoint:
        return {}
    if URL(endpoint).scheme != "http":
        raise Unavailable(f"{VARIABLES[0]} is not an http:// URL")
    async with Server("the ECS task metadata endpoint", endpoint) as server:
        task = (await server.value("/task")).json(server.name)
        this = (await server.value("")).json(server.name)
    arn = str(task.get("TaskARN") or "")
    parts = arn.split(":")
    region, account = (parts[3], parts[4]) if len(parts) >= 5 else ("", "")
    cluster = str(task.get("Cluster") or "")
    launch = str(task.get("LaunchType") or "").lower()
    return {
        "cloud.provider": "aws",
        "cloud.platform": "aws_ecs",
        "cloud.account.id": account,
        "cloud.region": region,
        "cloud.availability_zone": task.get("AvailabilityZone"),
        "aws.ecs.cluster.arn": cluster if ":" in cluster else f"arn:aws:ecs:{region}:{account}:cluster/{cluster}",
        "aws.ecs.task.arn": arn,
        "aws.ecs.task.family": task.get("Family"),
        "aws.ecs.task.revision": task.get("Revision"),
        "aws.ecs.task.id": arn.rpartition("/")[2] if "/" in arn else "",
        "aws.ecs.launchtype": launch if launch in ("ec2", "fargate") else "",
        **_logs(task.get("Containers"), this.get("DockerId"), account),
    }


def _logs(containers: Any, own: Any, account: str) -> dict[str, list[str]]:
    """Groups and streams of CloudWatch of the other running containers."""
    out: dict[str, list[str]] = {f"aws.log.{kind}.{what}": [] for kind in ("group", "stream") for what in ("names", "arns")}
    for container in containers if isinstance(containers, list) else []:
        if not isinstance(container, dict) or container.get("DockerId") == own:
            continue
        options = container.get("LogOptions")
        state = (container.get("Type"), container.get("KnownStatus"), container.get("LogDriver"))
        if state != ("NORMAL", "RUNNING", "awslogs") or not isinstance(options, dict) or not options:
            continue
        group, stream = str(options.get("awslogs-group", "")), str(options.get("awslogs-stream", ""))
        arn = f"arn:aws:logs:{options.get('awslogs-region', '')}:{account}:log-group:{group}"
        out["aws.log.group.names"].append(group)
        out["aws.log.group.arns"].append(arn)
        out["aws.log.stream.names"].append(stream)
        out["aws.log.stream.arns"].append(f"{arn}:log-stream:{stream}")
    return out
