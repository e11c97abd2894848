"""The k8s_api detector (older name: k8snode): the node's name from the environment, its uid and the cluster's from the API.

Upstream: processor/resourcedetectionprocessor/internal/k8sapi.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

from kofagent.kubernetes.client import ApiClient
from kofagent.kubernetes.errors import Forbidden, NotFound, Unauthorized
from kofagent.kubernetes.resources import NAMESPACES, NODES
from kofagent.processors.resourcedetection.blocks import K8sBlock


def node_name(options: K8sBlock, environ: Mapping[str, str] = os.environ) -> str:
    """The node this agent runs on; ValueError that says what to do if it is not known."""
    variable = options.node_from_env_var or "K8S_NODE_NAME"
    name = environ.get(variable, "")
    if not name:
        raise ValueError(
            f"the node's name is not in the environment variable {variable}; set it in the pod from the field "
            "spec.nodeName (valueFrom.fieldRef), or name another variable with node_from_env_var"
        )
    return name


def of_environment(options: K8sBlock) -> dict[str, str]:
    """What is known without the API. ValueError as `node_name`."""
    return {"k8s.node.name": node_name(options)} if "k8s.node.name" in options.enabled() else {}


async def detect(options: K8sBlock, client: ApiClient) -> tuple[dict[str, str], str]:
    """The attributes, and a warning where the cluster's uid may not be read. ApiError where the node cannot be read."""
    enabled = options.enabled()
    node = node_name(options)
    out = of_environment(options)
    warning = ""
    if "k8s.node.uid" in enabled:
        found = await client.get_object(NODES, node)
        out["k8s.node.uid"] = str(found["metadata"]["uid"])
    if "k8s.cluster.uid" in enabled:
        try:
            found = await client.get_object(NAMESPACES, "kube-system")
            out["k8s.cluster.uid"] = str(found["metadata"]["uid"])
        except (Forbidden, Unauthorized, NotFound) as error:
            warning = f"k8s.cluster.uid is left out: {error}"
    return out, warning
