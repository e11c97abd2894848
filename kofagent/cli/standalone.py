"""`kofagent run --kubeconfig`: what works on a machine that is not a node of the cluster, and what stays off there.

Before the pipelines start, the API server is asked once: a kubeconfig that cannot work ends the command with an error, an API
server that is temporarily unavailable does not. Then the nodes tell whether this machine is one of them. If it is not, receivers of
a node's files stay off, each with a log line, because a laptop's own /var/log would be taken for the cluster's.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from kofagent.component import registry
from kofagent.component.protocols import Kubeconfig, StartError
from kofagent.config.base import ComponentConfig
from kofagent.config.load import LoadedConfig
from kofagent.kubernetes.choose import find
from kofagent.kubernetes.client import ApiClient
from kofagent.kubernetes.errors import ApiError, NoCredentials, NotFound, Unauthorized, Untrusted
from kofagent.kubernetes.options import ApiOptions
from kofagent.kubernetes.own_node import own_node

PATIENCE = 10.0
"""Seconds for the requests before the start."""
POD_LOGS = ("/var/log/pods/", "/var/log/containers/", "/var/lib/docker/containers/", "/hostfs/")
NODE_LOGS = ("/var/log/", *POD_LOGS)
Say = Callable[[str], None]


@dataclass(frozen=True)
class Place:
    """Where this agent runs. `why` is the end of a sentence that says it."""

    on_node: bool
    why: str


async def look(kubeconfig: str, context: str, say: Say) -> Place:
    """Asks the API server of a kubeconfig. StartError when it cannot work."""
    client = ApiClient(find(ApiOptions(auth_type="kubeConfig"), Kubeconfig(kubeconfig, context)))
    await client.start()
    try:
        if not await _answers(client, say):
            return _unknown("its API server does not answer")
        name = os.environ.get("K8S_NODE_NAME", "")
        try:
            async with asyncio.timeout(PATIENCE):
                node = await own_node(client, name)
        except TimeoutError:
            return _unknown(f"its nodes could not be read within {PATIENCE:g} s")
        except NotFound:
            return Place(False, f"the cluster has no node {name} (K8S_NODE_NAME)")
        except ApiError as error:
            return _unknown(str(error))
        if node is not None:
            say(f"this machine is the cluster's node {node}")
            return Place(True, f"this machine is the node {node}")
        return Place(False, "this machine is not a node of the cluster" if not name else f"this machine is not the node {name}")
    finally:
        await client.stop()


def _unknown(why: str) -> Place:
    """It cannot be determined; then K8S_NODE_NAME decides."""
    name = os.environ.get("K8S_NODE_NAME", "")
    if name:
        return Place(True, f"K8S_NODE_NAME says that this machine is the node {name}")
    return Place(
        False, f"it is not known whether this machine is a node of the cluster ({why}); if it is, set K8S_NODE_NAME to its name"
    )


async def _answers(client: ApiClient, say: Say) -> bool:
    """Whether the API server answers now. StartError for errors that are not temporary."""
    for last in (False, False, True):
        try:
            await client.credentials()  # a plugin may prompt its user, which takes longer than an answer
            await client.get("/version", timeout=PATIENCE)
            return True
        except Untrusted as error:
            hint = (
                (
                    "the kubeconfig's certificate-authority, tls-server-name or client certificate does not fit this server: "
                    "fetch it again"
                )
                if "expired" not in str(error)
                else "renew the API server's certificate"
            )
            raise StartError(f"{error}; {hint}") from None
        except NoCredentials as error:
            raise StartError(str(error)) from None
        except Unauthorized:
            # an API server that has just started may refuse everything for a moment
            if last:
                raise StartError(
                    f"{client.access.server} does not accept the kubeconfig's credentials (401): they have expired or "
                    "belong to another cluster; log in again, and try kubectl get nodes"
                ) from None
            await asyncio.sleep(1)
        except ApiError as error:
            if error.status == 403:
                return True  # it knows us, but does not tell us its version
            say(f"the API server does not answer yet, trying again until it does: {error}")
            return False
    raise AssertionError


def adapt(config: LoadedConfig, place: Place, say: Say) -> LoadedConfig:
    """The configuration without what needs the node itself, unless this is one; `say` gets a line for each removal."""
    if place.on_node:
        return config
    receivers = dict(config.components.get("receivers", {}))
    used = {name for pipeline in config.pipelines.values() for name in pipeline.receivers if name in receivers}
    off = set()
    for name in sorted(used):
        options, kind = receivers[name], registry.resolve("receivers", registry.type_of(name))
        missing, rest = _needs(kind, options, of_values=bool(config.name))
        if missing and rest is not None:
            receivers[name] = rest
            say(f"receivers.{name}: {missing} left out: {place.why}")
        elif missing:
            del receivers[name]
            off.add(name)
            say(f"receivers.{name} stays off: {missing}: {place.why}")
        if kind == "prometheus" and _scrapes_pods(options):
            say(
                f"receivers.{name}: targets with addresses of pods and Services can be scraped only where this machine has a route "
                "to them; others are down, with the reason in the log and in the targets API"
            )
    pipelines = {}
    for name, pipeline in config.pipelines.items():
        stay = [r for r in pipeline.receivers if r not in off]
        if not stay:
            stay = ["nop"]
            receivers.setdefault("nop", registry.load("receivers", "nop").Config())
        pipelines[name] = pipeline.model_copy(update={"receivers": stay})
    return replace(
        config,
        components={**config.components, "receivers": receivers},
        service=config.service.model_copy(update={"pipelines": pipelines}),
    )


def _needs(kind: str | None, options: Any, of_values: bool) -> tuple[str, ComponentConfig | None]:
    """What a receiver reads of the node itself ("" for nothing), and its options without that, None if nothing remains."""
    if kind == "filelog":
        prefixes = NODE_LOGS if of_values else POD_LOGS
        theirs = [path for path in options.include if path.startswith(prefixes)]
        rest = [path for path in options.include if path not in theirs]
        if theirs:
            return f"log files of a node ({', '.join(theirs)})", options.model_copy(update={"include": rest}) if rest else None
    if kind == "hostmetrics" and options.root_path and not os.path.isdir(options.root_path):
        return f"the root directory of a node ({options.root_path})", None
    if kind == "kubeletstats" and options.auth_type in ("serviceAccount", "kubeConfig") and not _kubelet(options):
        return "the kubelet of an unnamed node (set endpoint: NAME, or K8S_NODE_NAME)", None
    return "", None


def _kubelet(options: Any) -> str:
    host: str = options.endpoint.strip().split("://")[-1].split(":")[0]
    return host or options.node or os.environ.get("K8S_NODE_NAME", "")


def _scrapes_pods(options: Any) -> bool:
    """Whether there are jobs of pods, endpoints or Services, other than those that set one other address for all targets."""
    return options.monitors.enabled or any(
        entry.role.lower() not in ("node", "ingress")
        for job in options.config.jobs()
        for entry in job.kubernetes_sd_configs
        if not any(rule.target_label == "__address__" and "$" not in rule.replacement for rule in job.relabel_configs)
    )
