"""The detectors `azure` and `aks`: what the Azure Instance Metadata Service says.

Upstream: processor/resourcedetectionprocessor/internal/azure. https://learn.microsoft.com/azure/virtual-machines/instance-metadata-service
"""

from __future__ import annotations

import os
from typing import Any

from kofagent.processors.resourcedetection.blocks import AksBlock, AzureBlock, matching
from kofagent.processors.resourcedetection.servers import Server

BASE = "http://169.254.169.254"
_COMPUTE = "/metadata/instance/compute?format=json&api-version=2020-09-01"


async def _compute() -> dict[str, Any]:
    async with Server("the Azure metadata service", BASE) as server:
        return (await server.value(_COMPUTE, {"Metadata": "true"})).json(server.name)


async def detect(options: AzureBlock) -> dict[str, Any]:
    """The attributes of this virtual machine. Unavailable where there is no such service."""
    compute = await _compute()
    profile = compute.get("osProfile")
    tags = compute.get("tagsList") if options.tags else None
    return {
        "cloud.provider": "azure",
        "cloud.platform": "azure_vm",
        "host.name": (profile.get("computerName") if isinstance(profile, dict) else "") or compute.get("name"),
        "cloud.region": compute.get("location"),
        "host.id": compute.get("vmId"),
        "cloud.account.id": compute.get("subscriptionId"),
        "cloud.availability_zone": compute.get("zone"),
        "azure.vm.name": compute.get("name"),
        "azure.vm.size": compute.get("vmSize"),
        "azure.vm.scaleset.name": compute.get("vmScaleSetName"),
        "azure.resourcegroup.name": compute.get("resourceGroupName"),
        **matching(
            options.tags,
            {str(tag.get("name")): str(tag.get("value")) for tag in tags or [] if isinstance(tag, dict)},
            "azure.tag.",
        ),
    }


async def detect_aks(options: AksBlock) -> dict[str, Any]:
    """The attributes of a cluster of Azure; empty outside of Kubernetes, Unavailable where there is no metadata service."""
    if not os.environ.get("KUBERNETES_SERVICE_HOST"):
        return {}
    compute = await _compute()
    return {
        "cloud.provider": "azure",
        "cloud.platform": "azure_aks",
        "k8s.cluster.name": cluster_name(str(compute.get("resourceGroupName") or "")),
    }


def cluster_name(resource_group: str) -> str:
    """The cluster in the name of its infrastructure's resource group, `MC_GROUP_CLUSTER_LOCATION`; another name is taken whole."""
    parts = resource_group.split("_")
    return parts[2] if len(parts) == 4 and parts[0].lower() == "mc" else resource_group
