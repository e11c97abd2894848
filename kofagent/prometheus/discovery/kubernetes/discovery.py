"""One entry of `kubernetes_sd_configs`: watches what its role needs and reports the target groups that changed.

Nothing is reported before everything was listed once. Then changes are collected: a single one is reported at once, a stream of
changes at most every five seconds. What cannot be read is logged once by name, with the missing RBAC rule; what was found stays.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from kofagent.component.protocols import StartError
from kofagent.kubernetes.client import ApiClient
from kofagent.kubernetes.informer import Subscription, key_of, subscribe
from kofagent.kubernetes.resources import JOBS, NAMESPACES, NODES, PODS, REPLICASETS, SERVICES, Resource
from kofagent.prometheus.allocation import Allocation
from kofagent.prometheus.discovery.config import KubernetesSdConfig
from kofagent.prometheus.discovery.group import Group, Update
from kofagent.prometheus.discovery.kubernetes.fields import FIELDS, ROLE_RESOURCE
from kofagent.prometheus.discovery.kubernetes.labels import Attach, Lookup, Object, identity, metadata
from kofagent.prometheus.discovery.kubernetes.lookup import Dependents, Stores
from kofagent.prometheus.discovery.kubernetes.roles import BUILD, SERVICE_NAME, source

QUICK_S = 0.1
SLOW_S = 5.0
"""Wait before a report after a quiet period, and between reports during continuous changes (5 s, as in Prometheus)."""
Select = Callable[[Object, Lookup], bool]
"""Decides before any label is created whether an object can become a selected target."""
Report = Callable[[str, "str | None"], None]
"""Called with what is read and why it cannot be read, or None if it can."""


class KubernetesDiscovery:
    """Implements `Discovery`. `connect` gives a client that is not started, or raises StartError.

    `namespaces` replaces those of the configuration: jobs that share watches read all and select for themselves.
    """

    def __init__(
        self,
        config: KubernetesSdConfig,
        connect: Callable[[], ApiClient],
        log: logging.Logger,
        report: Report,
        *,
        allocation: Allocation | None = None,
        select: Select | None = None,
        namespaces: Sequence[str] | None = None,
        slow: float = SLOW_S,
    ) -> None:
        self._config = config
        self._connect = connect
        self._log = log
        self._report = report
        self._allocation = allocation or Allocation()
        self._select = select
        self._namespaces = namespaces
        self._slow = slow
        self._stores = Stores()
        self._dependents = Dependents()
        self._primary: list[Subscription] = []
        self._all: list[Subscription] = []
        self._secondary: list[tuple[Subscription, asyncio.Event]] = []
        self._dirty: set[str] = set()
        self._services: set[str] = set()
        self._sent: set[str] = set()
        self._wake = asyncio.Event()
        asked = config.attach_metadata
        self._attach = Attach(
            node=asked.node,
            namespace=asked.namespace,
            deployment=asked.deployment,
            job=asked.job,
            cronjob=asked.cronjob,
            takes_node=None if self._allocation.strategy == "all" else self._allocation.takes_node,
        )

    async def run(self, update: Update) -> None:
        """As `Discovery.run`."""
        role = self._config.role
        others = {"without-node": ("node", "pod"), "per-node": ("service", "ingress")}
        if role in others.get(self._allocation.strategy, ()):
            return  # Every target of these roles has a node, whose agent scrapes it, or none has and the cluster's agent does.
        try:
            client = self._connect()
            await client.start()
        except StartError as error:
            self._log.error("kubernetes_sd_configs, role %s: %s", role, error)
            self._report(f"role {role}", str(error))
            return
        try:
            self._subscribe(client)
            for subscription in self._primary:
                await subscription.synced.wait()
            for subscription, failed in self._secondary:
                await _either(subscription.synced, failed)
            self._dirty.update(key for subscription in self._primary for key in subscription.store)
            await self._follow(update)
        finally:
            try:
                await asyncio.gather(*[subscription.stop() for subscription in self._all], return_exceptions=True)
            finally:  # a job that is retired when the agent stops is cancelled twice
                await client.stop()

    async def _follow(self, update: Update) -> None:
        loop = asyncio.get_running_loop()
        wait, told_at = QUICK_S, 0.0
        while True:
            self._wake.clear()
            told = self._flush(update)
            if told:
                told_at = loop.time()
            await self._wake.wait()
            if loop.time() - told_at > self._slow:
                wait = QUICK_S
            elif told:
                wait = min(wait * 2, self._slow)
            await asyncio.sleep(wait)

    def _subscribe(self, client: ApiClient) -> None:
        config, attach, role = self._config, self._config.attach_metadata, self._config.role
        names = list(
            dict.fromkeys([*config.namespaces.names, *([client.access.namespace] if config.namespaces.own_namespace else [])])
        )
        namespaces = [""] if role == "node" else list(self._namespaces if self._namespaces is not None else names or [""])
        for namespace in namespaces:
            self._add(client, ROLE_RESOURCE[role], namespace, primary=True)
            more: list[Resource] = [SERVICES, PODS] if role in ("endpoints", "endpointslice") else []
            if role in ("pod", "endpoints", "endpointslice"):
                more += [REPLICASETS] if attach.deployment else []
                more += [JOBS] if attach.cronjob else []
            for resource in more:
                self._add(client, resource, namespace)
        if attach.node and role in ("pod", "endpoints", "endpointslice"):
            self._add(client, NODES, "")
        if attach.namespace and role != "node":
            self._add(client, NAMESPACES, "")

    def _add(self, client: ApiClient, resource: Resource, namespace: str, primary: bool = False) -> None:
        label, field = self._selectors(resource)
        failed = asyncio.Event()
        if primary:
            on_change: Callable[[dict[str, Any]], None] = self._changed
        elif resource is SERVICES:
            on_change = self._service_changed
        else:
            on_change = lambda obj: self._touch(self._dependents.of((resource, key_of(obj))))  # noqa: E731 - one line

        def told(error: str | None) -> None:
            if error is not None and ("(403)" in error or "(404)" in error):
                failed.set()  # It will not come soon. What is slow or unavailable is waited for: labels must be complete.
            self._report(f"{resource}{f' in {namespace}' if namespace else ''}", error)

        subscription = subscribe(
            client,
            resource,
            namespace=namespace,
            label_selector=label,
            field_selector=field,
            fields=FIELDS[resource],
            on_add=on_change,
            on_update=lambda _, new: on_change(new),
            on_delete=on_change,
            report=told,
        )
        self._all.append(subscription)
        if primary:
            self._primary.append(subscription)
        else:
            self._stores.add(resource, namespace, subscription)
            self._secondary.append((subscription, failed))

    def _selectors(self, resource: Resource) -> tuple[str, str]:
        """Label and field selector; an agent of a node lists the pods of its node, and its node, only."""
        label, fields = "", []
        for selector in self._config.selectors:
            if resource is ROLE_RESOURCE[selector.role]:
                label = selector.label
                fields += [selector.field] if selector.field else []
        if self._allocation.strategy == "per-node":
            if resource is PODS:
                fields.append(f"spec.nodeName={self._allocation.node}")
            elif resource is NODES:
                fields.append(f"metadata.name={self._allocation.node}")
        return label, ",".join(fields)

    def _changed(self, obj: dict[str, Any]) -> None:
        self._touch((key_of(obj),))

    def _service_changed(self, obj: dict[str, Any]) -> None:
        self._services.add(key_of(obj))
        self._wake.set()

    def _touch(self, keys: Sequence[str] | frozenset[str]) -> None:
        if keys:
            self._dirty.update(keys)
            self._wake.set()

    def _flush(self, update: Update) -> bool:
        """Reports what changed; whether there was anything. Most changes in a big cluster are of targets of other agents."""
        if self._services:
            self._dirty |= self._of_services(self._services)
            self._services = set()
        dirty, self._dirty = self._dirty, set()
        groups = [group for group in map(self._build, sorted(dirty)) if group is not None]
        if groups:
            update(groups)
        return bool(groups)

    def _of_services(self, services: set[str]) -> set[str]:
        if self._config.role == "endpoints":
            return {key for key in services if self._get(key) is not None}
        return {
            key
            for subscription in self._primary
            for key, piece in subscription.store.items()
            if f"{identity(piece)[0]}/{(metadata(piece).get('labels') or {}).get(SERVICE_NAME)}" in services
        }

    def _get(self, key: str) -> Object | None:
        return next((found for found in (subscription.store.get(key) for subscription in self._primary) if found is not None), None)

    def _build(self, key: str) -> Group | None:
        """The group of an object; None if it was never reported and there is nothing to report."""
        role, obj = self._config.role, self._get(key)
        stores = self._stores
        stores.asked = set()
        group = Group(source(role, *_split(key)), [])
        if obj is not None and (self._select is None or self._select(obj, stores)):
            group = BUILD[role](obj, stores, self._attach)
            self._dependents.set(key, stores.asked)
        else:
            self._dependents.set(key, ())
        if group.targets:
            self._sent.add(group.source)
        elif group.source in self._sent:
            self._sent.remove(group.source)
        else:
            return None
        return group


async def _either(one: asyncio.Event, other: asyncio.Event) -> None:
    tasks = [asyncio.ensure_future(event.wait()) for event in (one, other)]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()


def _split(key: str) -> tuple[str, str]:
    namespace, slash, name = key.partition("/")
    return (namespace, name) if slash else ("", namespace)


def describe(problems: Mapping[str, str]) -> str | None:
    """All that cannot be read at present, as one sentence for the component's status; None if everything can."""
    return "; ".join(f"{what}: {why}" for what, why in sorted(problems.items())) or None
