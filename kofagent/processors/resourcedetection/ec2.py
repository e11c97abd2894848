"""The detectors `ec2` and `eks`: the EC2 instance metadata service (IMDSv2, else v1), and the EC2 API for what it does not say.

Upstream: processor/resourcedetectionprocessor/internal/aws. The API needs the actions ec2:DescribeTags and ec2:DescribeInstances.
"""

from __future__ import annotations

import os
import xml.etree.ElementTree as ET
from collections.abc import Awaitable, Callable
from typing import Any

from kofagent.kubernetes.client import ApiClient
from kofagent.kubernetes.resources import NODES
from kofagent.processors.resourcedetection.blocks import Ec2Block, EksBlock, matching
from kofagent.processors.resourcedetection.servers import Server, Unavailable, attempts

BASE = "http://169.254.169.254"
_TOKEN_SECONDS = "300"
_CLUSTER_TAGS = ("aws:eks:cluster-name", "eks:cluster-name")
_CLUSTER_PREFIX = "kubernetes.io/cluster/"

Api = Callable[[str, dict[str, str]], Awaitable[bytes]]
"""Calls the EC2 API of a region with these parameters: the XML of a 200, else Unavailable."""


class Instance:
    """The metadata service of this instance, between `open` and the end of its server."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._headers: dict[str, str] = {}

    async def open(self) -> None:
        """Fetches a token where the service has them. Unavailable without a service."""
        said = await self._server.ask("/latest/api/token", {"X-aws-ec2-metadata-token-ttl-seconds": _TOKEN_SECONDS}, "PUT")
        if said.status == 200:
            self._headers = {"X-aws-ec2-metadata-token": said.text}

    async def attributes(self) -> dict[str, Any]:
        """What the identity document and the host's name say."""
        document = (await self._server.value("/latest/dynamic/instance-identity/document", self._headers)).json(self._server.name)
        return {
            "cloud.provider": "aws",
            "cloud.platform": "aws_ec2",
            "cloud.region": document.get("region"),
            "cloud.account.id": document.get("accountId"),
            "cloud.availability_zone": document.get("availabilityZone"),
            "host.id": document.get("instanceId"),
            "host.image.id": document.get("imageId"),
            "host.type": document.get("instanceType"),
            "host.name": (await self._server.value("/latest/meta-data/hostname", self._headers)).text,
        }

    async def tags(self) -> dict[str, str]:
        """The instance's tags; Unavailable where it does not show them here."""
        place = "/latest/meta-data/tags/instance"
        keys = (await self._server.value(place, self._headers)).text.split("\n")
        return {key: (await self._server.value(f"{place}/{key}", self._headers)).text for key in keys if key}


def _server() -> Server:
    if os.environ.get("AWS_EC2_METADATA_DISABLED", "").lower() == "true":
        raise Unavailable("AWS_EC2_METADATA_DISABLED is set")
    return Server("the EC2 metadata service", os.environ.get("AWS_EC2_METADATA_SERVICE_ENDPOINT") or BASE)


async def detect(options: Ec2Block, api: Api) -> dict[str, Any]:
    """The attributes of this instance. Unavailable where there is no metadata service."""
    async with _server() as server:
        instance = Instance(server)
        await attempts(options.max_attempts, options.max_backoff, instance.open)
        out = await instance.attributes()
        if options.tags:
            if options.tags_from_imds:
                tags = await instance.tags()
            else:
                tags = _tags(await api(str(out["cloud.region"]), _describe_tags(str(out["host.id"]))))
            out.update(matching(options.tags, tags, "ec2.tag."))
        return out


async def detect_eks(options: EksBlock, client: ApiClient | None, api: Api) -> dict[str, Any]:
    """The attributes of a node of EKS; empty elsewhere, and where there is no `client`.

    Without metadata service it is what the node and the EC2 API say. Unavailable and ApiError where one of them cannot be asked.
    """
    if client is None:
        return {}
    version = await client.get("/version")
    if "-eks-" not in str(version.get("gitVersion")):
        return {}
    out: dict[str, Any]
    try:
        async with _server() as server:
            instance = Instance(server)
            await instance.open()
            out = await instance.attributes()
    except Unavailable:
        out = await _of_node(options, client)
    wanted = options.enabled()
    if (wanted - out.keys()) or ("k8s.cluster.name" in wanted):
        described = await api(str(out["cloud.region"]), _describe_instances(str(out["host.id"])))
        out = {**_described(described), **out}
    return {**out, "cloud.platform": "aws_eks"}


async def _of_node(options: EksBlock, client: ApiClient) -> dict[str, Any]:
    """Region, zone and instance in the provider's id of the node, `aws:///us-west-2a/i-049ca2df511bec762`."""
    variable = options.node_from_env_var or "K8S_NODE_NAME"
    name = os.environ.get(variable, "")
    if not name:
        raise Unavailable(f"there is no EC2 metadata service, and the node's name is not in the environment variable {variable}")
    node = await client.get_object(NODES, name)
    parts = str((node.get("spec") or {}).get("providerID", "")).split("/")
    if len(parts) < 5 or parts[0] != "aws:" or not parts[3] or not parts[4]:
        raise Unavailable("the node's spec.providerID is not that of an EC2 instance")
    return {
        "cloud.provider": "aws",
        "cloud.region": parts[3][:-1],
        "cloud.availability_zone": parts[3],
        "host.id": parts[4],
    }


def _describe_tags(instance: str) -> dict[str, str]:
    return {"Action": "DescribeTags", "Filter.1.Name": "resource-id", "Filter.1.Value.1": instance}


def _describe_instances(instance: str) -> dict[str, str]:
    return {"Action": "DescribeInstances", "InstanceId.1": instance}


def _parse(answer: bytes) -> ET.Element:
    """The answer's tree, names without their namespace; Unavailable when it is not XML. Its size is limited by who fetched it."""
    try:
        root = ET.fromstring(answer)  # noqa: S314 - from AWS over TLS, 1 MiB; expat limits what entities grow to
    except ET.ParseError:
        raise Unavailable("the EC2 API answered something that is not XML") from None
    for element in root.iter():
        element.tag = element.tag.rpartition("}")[2]
    return root


def _tags(answer: bytes) -> dict[str, str]:
    """The tags of a DescribeTagsResponse."""
    return _pairs(_parse(answer), "tagSet")


def _pairs(tree: ET.Element, name: str) -> dict[str, str]:
    items = tree.iterfind(f".//{name}/item")
    return {key: item.findtext("value") or "" for item in items if (key := item.findtext("key"))}


def _described(answer: bytes) -> dict[str, Any]:
    """What a DescribeInstancesResponse says of its first instance."""
    tree = _parse(answer)
    instance = tree.find(".//instancesSet/item")
    if instance is None:
        return {}
    tags = _pairs(instance, "tagSet")
    named = next((tags[key] for key in _CLUSTER_TAGS if tags.get(key)), "")
    owned = next((key.removeprefix(_CLUSTER_PREFIX) for key in tags if key.startswith(_CLUSTER_PREFIX)), "")
    return {
        "cloud.account.id": tree.findtext(".//reservationSet/item/ownerId"),
        "host.image.id": instance.findtext("imageId"),
        "host.type": instance.findtext("instanceType"),
        "host.name": instance.findtext("privateDnsName"),
        "k8s.cluster.name": named or owned,
    }
