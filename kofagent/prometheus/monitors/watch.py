"""Watches the monitors of a cluster and reports the scrape jobs that they define, all of them after every change.

A monitor, or an endpoint of one, that cannot be used is logged once by name and left out; the others stay. A field that is
unknown (of a newer CRD) or that another one makes ineffective is logged once too. Kinds whose CRD is not installed are looked up
again every minute.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

from pydantic import ValidationError

from kofagent.component.log_limit import LogLimit
from kofagent.config.errors import show_path
from kofagent.config.tree import Origin, node_of
from kofagent.config.unused import notices
from kofagent.kubernetes.client import ApiClient
from kofagent.kubernetes.errors import ApiError, NotFound
from kofagent.kubernetes.informer import Subscription, subscribe
from kofagent.kubernetes.resources import NAMESPACES, PODMONITORS, PROBES, SCRAPECONFIGS, SERVICEMONITORS, Resource
from kofagent.prometheus.allocation import Allocation, Strategy
from kofagent.prometheus.config import GlobalConfig, ScrapeConfig
from kofagent.prometheus.discovery.kubernetes.discovery import QUICK_S, SLOW_S, Report
from kofagent.prometheus.discovery.kubernetes.labels import Object, identity, metadata
from kofagent.prometheus.monitors.job import Job, Resolve, Settings, Unusable, matches
from kofagent.prometheus.monitors.options import Kind, MonitorsBlock
from kofagent.prometheus.monitors.podmonitor import pod_monitor_jobs
from kofagent.prometheus.monitors.probe import probe_job
from kofagent.prometheus.monitors.scrapeconfig import scrape_config_job
from kofagent.prometheus.monitors.secrets import Pending, Secrets, Unreadable
from kofagent.prometheus.monitors.servicemonitor import service_monitor_jobs
from kofagent.prometheus.monitors.unread import Seen

CRD_S = 60.0
RESOURCES: dict[Kind, Resource] = {
    "ServiceMonitor": SERVICEMONITORS,
    "PodMonitor": PODMONITORS,
    "Probe": PROBES,
    "ScrapeConfig": SCRAPECONFIGS,
}
_NEVER: dict[Strategy, Kind] = {"per-node": "Probe", "without-node": "PodMonitor"}
"""Kinds whose targets all belong to another agent: they are not read, and the rights for them and their Secrets are not needed."""
_FIELDS = ("spec", "metadata.labels")
Translate = Callable[[Object, Resolve, Settings], Job]


class Wanted:
    """A job that monitors define. Equal data are equal jobs."""

    __slots__ = ("config", "data", "probes", "select")

    def __init__(self, config: ScrapeConfig, job: Job) -> None:
        self.config = config
        self.data, self.select, self.probes = job


class Monitors:
    """Calls `update` with all jobs by name, first when everything was read once. `connect` gives a client or raises StartError."""

    def __init__(
        self,
        block: MonitorsBlock,
        defaults: GlobalConfig,
        connect: Callable[[], ApiClient],
        log: logging.Logger,
        report: Report,
        update: Callable[[Mapping[str, Wanted]], None],
        *,
        allocation: Allocation | None = None,
        slow: float = SLOW_S,
        retry: float = CRD_S,
    ) -> None:
        self._block = block
        never = _NEVER.get(allocation.strategy if allocation is not None else "all")
        self._kinds = [kind for kind in block.kinds if kind != never]
        self._settings = block.settings()
        interval = block.scrape_interval or defaults.scrape_interval
        self._defaults = defaults.model_copy(update={"scrape_interval": interval})
        self._connect = connect
        self._log = log
        self._report = report
        self._update = update
        self._slow = slow
        self._retry = retry
        self._objects: list[tuple[Kind, Subscription]] = []
        self._namespaces: Subscription | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._wake = asyncio.Event()
        self._complaints: dict[str, str] = {}
        self._known: dict[str, Wanted] = {}
        self._unread = LogLimit()

    async def run(self) -> None:
        """Until it is cancelled. Raises StartError when there is no API server to ask."""
        client = self._connect()
        await client.start()
        secrets = Secrets(client, self._report, self._wake.set)
        try:
            if self._block.namespace_selector.match_labels or self._block.namespace_selector.match_expressions:
                self._namespaces = self._subscribe(client, NAMESPACES, "", ("metadata.labels",))
                await self._namespaces.synced.wait()
            ready = [asyncio.Event() for _ in self._kinds]
            self._tasks = [
                asyncio.ensure_future(self._follow_kind(client, kind, done)) for kind, done in zip(self._kinds, ready, strict=True)
            ]
            for done in ready:
                await done.wait()
            await self._follow(secrets)
        finally:
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            await secrets.forget_but(())
            subscriptions = [subscription for _, subscription in self._objects] + ([self._namespaces] if self._namespaces else [])
            try:
                await asyncio.gather(*[subscription.stop() for subscription in subscriptions], return_exceptions=True)
            finally:
                await client.stop()

    async def _follow_kind(self, client: ApiClient, kind: Kind, done: asyncio.Event) -> None:
        resource = RESOURCES[kind]
        told = False
        while not await self._is_served(client, resource):
            if not told:
                self._log.info("the CRD of %s is not installed; checking again every %g s", kind, self._retry)
                told = True
            done.set()
            await asyncio.sleep(self._retry)
        for namespace in self._block.namespaces or [""]:
            self._objects.append((kind, self._subscribe(client, resource, namespace, _FIELDS, done)))
        for _, subscription in [pair for pair in self._objects if pair[0] == kind]:
            await subscription.synced.wait()
        done.set()
        self._wake.set()

    async def _is_served(self, client: ApiClient, resource: Resource) -> bool:
        try:
            found = await client.get(f"/apis/{resource.api_version}")
            return any(entry.get("name") == resource.plural for entry in found.get("resources") or ())
        except NotFound:
            return False
        except (ApiError, AttributeError):
            return True  # The watch will report what is wrong.

    def _subscribe(
        self, client: ApiClient, resource: Resource, namespace: str, fields: tuple[str, ...], done: asyncio.Event | None = None
    ) -> Subscription:
        def told(error: str | None) -> None:
            self._report(f"{resource}{f' in {namespace}' if namespace else ''}", error)
            if error is not None and done is not None:
                done.set()

        wake = self._wake
        return subscribe(
            client,
            resource,
            namespace=namespace,
            fields=fields,
            on_add=lambda _: wake.set(),
            on_update=lambda _, __: wake.set(),
            on_delete=lambda _: wake.set(),
            report=told,
        )

    async def _follow(self, secrets: Secrets) -> None:
        loop = asyncio.get_running_loop()
        wait = QUICK_S
        while True:
            self._wake.clear()
            secrets.asked = set()
            self._update(self._translate(secrets))
            await secrets.forget_but(secrets.asked)
            flushed = loop.time()
            await self._wake.wait()
            wait = QUICK_S if loop.time() - flushed > self._slow else min(wait * 2, self._slow)
            await asyncio.sleep(wait)

    def _translate(self, secrets: Resolve) -> dict[str, Wanted]:
        wanted: dict[str, Wanted] = {}
        complaints: dict[str, str] = {}
        told: set[str] = set()
        for name, monitor, translate in self._each():
            try:
                job = translate(monitor, secrets, self._settings)
                wanted[name] = self._wanted(name, job)
                if wanted[name] is not self._known.get(name):
                    self._tell_unread(name, wanted[name], monitor, translate, secrets)
            except Pending:
                # A value is being read; the previous job stays until then.
                if name in self._known:
                    wanted[name] = self._known[name]
            except Unreadable as error:
                complaints[name] = str(error)
                told.add(name)
            except (Unusable, KeyError, TypeError, AttributeError, ValueError) as error:
                complaints[name] = str(error) if isinstance(error, Unusable | ValueError) else "its spec does not match its CRD"
        for name, why in complaints.items():
            if self._complaints.get(name) != why:
                # The whole text, not a template: the log's sampling takes lines of one template for repetitions.
                self._log.log(logging.INFO if name in told else logging.ERROR, f"{name} is left out: {why}")
        for name in set(self._complaints) | set(complaints):
            self._report(name, complaints.get(name))
        self._complaints, self._known = complaints, wanted
        return wanted

    def _tell_unread(self, name: str, wanted: Wanted, monitor: Object, translate: Translate, secrets: Resolve) -> None:
        seen = Seen({"spec": monitor.get("spec") or {}})
        translate({**monitor, "spec": seen["spec"]}, secrets, self._settings)
        kind, namespace, own = name.split("/")[:3]
        without = [show_path(problem.path) for problem in notices(wanted.config, node_of(wanted.data, Origin()))]
        fields = [field for field in (*seen.unread(), *without) if self._unread.due((f"{kind}/{namespace}/{own}", field))]
        if fields:
            self._log.warning(f"{name}: unknown fields or fields without effect: {', '.join(fields)}")

    def _wanted(self, name: str, job: Job) -> Wanted:
        known = self._known.get(name)
        if known is not None and known.data == job.data:
            return known
        try:
            config = ScrapeConfig.model_validate(job.data)
            config.inherit(self._defaults)
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            place = ".".join(str(part) for part in first["loc"])
            if len(first["loc"]) > 1 and first["loc"][0] in ("relabel_configs", "metric_relabel_configs"):
                # The place is that among the operator's own rules too; the rule itself says which of the user's it is.
                place = f"{first['loc'][0]}, rule {json.dumps(job.data[first['loc'][0]][first['loc'][1]])}"
            why = first.get("ctx", {}).get("error", first["msg"])
            raise Unusable(f"{place + ': ' if place else ''}{why}") from None
        return Wanted(config, job)

    def _each(self) -> Iterator[tuple[str, Object, Translate]]:
        """Every job that selected objects define: its name, its object and how it is built."""
        for kind, subscription in self._objects:
            selectors = self._block.selectors(kind)
            for monitor in list(subscription.store.values()):
                labels = metadata(monitor).get("labels") or {}
                if not self._in_scope(identity(monitor)[0]) or not all(matches(selector, labels) for selector in selectors):
                    continue
                yield from ((name, monitor, translate) for name, translate in _jobs(kind, monitor))

    def _in_scope(self, namespace: str) -> bool:
        if namespace in self._block.deny_namespaces:
            return False
        if self._namespaces is None:
            return True
        found = self._namespaces.get("", namespace)
        return found is not None and matches(self._block.namespace_selector.plain(), metadata(found).get("labels") or {})


def _jobs(kind: Kind, monitor: Object) -> Iterator[tuple[str, Translate]]:
    namespace, name = identity(monitor)
    spec: Mapping[str, Any] = monitor.get("spec") or {}
    if kind == "ServiceMonitor":
        for i in range(len(spec.get("endpoints") or ())):
            yield f"serviceMonitor/{namespace}/{name}/{i}", partial(_of_endpoint, service_monitor_jobs, i)
    elif kind == "PodMonitor":
        for i in range(len(spec.get("podMetricsEndpoints") or ())):
            yield f"podMonitor/{namespace}/{name}/{i}", partial(_of_endpoint, pod_monitor_jobs, i)
    elif kind == "Probe":
        yield f"probe/{namespace}/{name}", probe_job
    else:
        yield f"scrapeConfig/{namespace}/{name}", scrape_config_job


def _of_endpoint(
    translate: Callable[[Object, int, Resolve, Settings], Job], index: int, monitor: Object, resolve: Resolve, settings: Settings
) -> Job:
    return translate(monitor, index, resolve, settings)
