"""The extension `k8s_observer`."""

from __future__ import annotations

import os
from typing import ClassVar

from kofagent.component.observing import Told, Wanted
from kofagent.component.protocols import Context, Extension, StartError
from kofagent.component.statuses import Statuses
from kofagent.extensions.k8s_observer.config import Config
from kofagent.extensions.k8s_observer.folders import Folders
from kofagent.extensions.k8s_observer.objects import INGRESS, NODE, SERVICE
from kofagent.extensions.k8s_observer.pods import Rules
from kofagent.extensions.k8s_observer.watching import Place, Watching
from kofagent.kubernetes.client import ApiClient, shared

NODE_VARIABLES = ("OTEL_K8S_NODE_NAME", "K8S_NODE_NAME")
"""Where KOF's charts and the operator say which node a pod of the agent is on."""
OF_PODS = frozenset({"pod", "pod.container", "port"})


class K8sObserver(Extension[Config]):
    """Gives each of its readers an observation of its own; the watches below are shared."""

    types: ClassVar = OF_PODS | {"k8s.service", "k8s.ingress", "k8s.node"}

    def __init__(self, config: Config, context: Context) -> None:
        super().__init__(config, context)
        self._statuses = Statuses(context)
        self._client: ApiClient | None = None
        self._watching: list[Watching] = []

    async def start(self) -> None:
        """Connects; what is observed is read when somebody wants it."""
        self._client = client = shared(self.context.host, self.config)
        await client.start()

    async def stop(self) -> None:
        """Ends all observations."""
        watching, self._watching = self._watching, []
        for each in watching:
            await each.stop()
        client, self._client = self._client, None
        if client is not None:
            await client.stop()

    def observe(self, wanted: Wanted, told: Told) -> Watching:
        """As `Observer.observe`."""
        if self._client is None:
            raise StartError(f"{self.context.id} does not run")
        config, name = self.config, self.context.id
        place = f"{len(self._watching)}"
        watching = Watching(name, self._client, told, lambda what: self._statuses.of(f"{place} {what}"))
        namespaces = tuple(dict.fromkeys(config.namespaces))
        if config.observe_pods and wanted.types & OF_PODS:
            node = config.node or (self._own_node() if wanted.files else "")
            selector = f"spec.nodeName={node}" if node else ""
            folders = Folders(config.log_directory) if wanted.files else None
            watching.all_pods(self._rules(wanted), selector, Place(namespaces, folders, bool(node)))
        if config.observe_services and "k8s.service" in wanted.types:
            watching.objects(SERVICE, namespaces)
        if config.observe_ingresses and "k8s.ingress" in wanted.types:
            watching.objects(INGRESS, namespaces)
        if config.observe_nodes and "k8s.node" in wanted.types:
            watching.objects(NODE, (), f"metadata.name={config.node}" if config.node else "")
        watching.start()
        self._watching.append(watching)
        return watching

    def _rules(self, wanted: Wanted) -> Rules:
        config, files = self.config, wanted.files
        phases = config.observe_pod_phases
        if phases is None and not files:
            phases = ["Running"]
        init = files if config.observe_init_containers is None else config.observe_init_containers
        ttl = config.container_terminated_ttl
        return Rules(wanted.types, files, None if phases is None else frozenset(phases), init, ttl)

    def _own_node(self) -> str:
        return next((os.environ[name] for name in NODE_VARIABLES if os.environ.get(name)), "")
