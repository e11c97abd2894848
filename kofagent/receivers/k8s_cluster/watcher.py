"""Watches the objects: keeps the snapshots of their metrics and passes changes to the entity queue."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Protocol

from kofagent.kubernetes.client import ApiClient
from kofagent.kubernetes.informer import Subscription, key_of, subscribe
from kofagent.kubernetes.resources import SERVICES, Resource
from kofagent.kubernetes.trim import Field, Object
from kofagent.receivers.k8s_cluster import nodes, pods, quotas, services, workloads
from kofagent.receivers.k8s_cluster.config import Config
from kofagent.receivers.k8s_cluster.model import Described, Entity, Selection, Source
from kofagent.receivers.k8s_cluster.snapshot import Snapshot

PATIENCE = 40.0
"""Seconds to wait for the other kinds of objects after the first one was read; longer than any wait of an informer."""


class Entities(Protocol):
    """Takes entity events."""

    def state(self, entity: Entity) -> None: ...
    def delete(self, entity: Entity) -> None: ...


class Watcher:
    """All subscriptions of one receiver. `metrics` and `entities` say what is wanted of the objects."""

    def __init__(
        self,
        client: ApiClient,
        config: Config,
        selection: Selection,
        new_snapshot: Callable[[], Snapshot] | None,
        entities: Entities | None,
        report: Callable[[str | None], None],
    ) -> None:
        self.client = client
        self._config = config
        self._selection = selection
        self.new_snapshot = new_snapshot
        self.entities = entities
        self._report = report
        self._errors: dict[tuple[Resource, str], str] = {}
        self._parts: list[_Part] = []
        self._slices: list[Subscription] = []
        self._counts: dict[str, dict[str, services.Counts]] = {}
        self._services: dict[str, dict[str, Object]] = {}
        self.telling = False
        """Whether changes of entities are told: not while the first lists come in."""

    def start(self) -> None:
        """Starts watching; the client must be started."""
        places = self._config.places()
        whole = places == [""]
        if self.new_snapshot is not None and self._selection.on("k8s.service.endpoint.count"):
            for place in places:
                self._slices.append(
                    subscribe(
                        self.client,
                        services.SLICES,
                        namespace=place,
                        fields=services.SLICE_FIELDS,
                        on_add=self._slice,
                        on_update=lambda old, new: self._slice(new),
                        on_delete=self._slice_gone,
                        report=self.reporter(services.SLICES, place),
                    )
                )
        # Owners and services come before pods: a pod's entity refers to them.
        sources: list[Source] = [*workloads.SOURCES, services.SOURCE, pods.SOURCE, quotas.QUOTA]
        if whole:
            sources += [nodes.NODE, nodes.NAMESPACE]
            if self._config.distribution == "openshift":
                sources.append(quotas.CLUSTER_QUOTA)
        for source in sources:
            for place in places:
                if self.new_snapshot is not None or source.entities is not None:
                    self._parts.append(_Part(self, source, place))

    async def stop(self) -> None:
        """Ends it."""
        parts, self._parts = self._parts, []
        slices, self._slices = self._slices, []
        for subscription in [*(part.subscription for part in parts), *slices]:
            await subscription.stop()

    async def settle(self) -> None:
        """Returns when everything was read once; from then on changes are reported. A pod's entity has its owners and services,
        so nothing is reported while they are still being listed. A kind that may not be read is waited for until PATIENCE.
        """
        loop = asyncio.get_running_loop()
        deadline: float | None = None
        while not all(part.subscription.synced.is_set() for part in self._parts):
            if deadline is None and any(part.subscription.synced.is_set() for part in self._parts):
                deadline = loop.time() + PATIENCE
            if deadline is not None and loop.time() > deadline:
                break
            await asyncio.sleep(0.05)
        self.telling = True

    @property
    def snapshots(self) -> list[Snapshot]:
        """Kinds that were read completely at least once."""
        return [part.snapshot for part in self._parts if part.snapshot is not None and part.subscription.synced.is_set()]

    def all_entities(self) -> Iterator[list[Entity]]:
        """The entities of all objects, object by object."""
        for part in self._parts:
            if part.source.entities is not None and part.subscription.synced.is_set():
                for obj in list(part.subscription.store.values()):
                    yield self.entities_of(part.source, obj)

    def lookup(self, resource: Resource, namespace: str, name: str) -> Object | None:
        """A watched object; None if it is not known."""
        for part in self._parts:
            if part.source.resource is resource and part.place in ("", namespace):
                return part.subscription.get(namespace, name)
        return None

    def entities_of(self, source: Source, obj: Object) -> list[Entity]:
        """The entities of an object."""
        if source is pods.SOURCE:
            labels = obj["metadata"].get("labels") or {}
            near = self._services.get(obj["metadata"].get("namespace", ""), {})
            return pods.entities(obj, self.lookup, [name for name, s in near.items() if services.selects(s, labels)])
        return source.entities(obj, self.lookup) if source.entities is not None else []

    def describe(self, source: Source, obj: Object) -> list[Described]:
        """The metrics of an object."""
        if source is services.SOURCE and self._slices:
            counts = sum(self._counts.get(key_of(obj), {}).values(), services.Counts())
            # Adding counters leaves zeros out, and zero endpoints are a number too.
            for slice_counts in self._counts.get(key_of(obj), {}).values():
                for kind, zone, condition in slice_counts:
                    counts.setdefault((kind, zone, condition), 0)
            return services.describe(obj, self._selection, counts)
        return source.describe(obj, self._selection)

    def fields(self, source: Source) -> tuple[Field, ...]:
        """The fields of a kind of object that are needed."""
        fields = source.metric_fields(self._selection) if self.new_snapshot is not None else ()
        return fields + (source.entity_fields if self.entities is not None else ())

    def keep_service(self, obj: Object, there: bool) -> None:
        """Pods' entities name a service that selects them."""
        metadata = obj["metadata"]
        namespace = metadata.get("namespace", "")
        near = self._services.setdefault(namespace, {})
        if there:
            near[metadata["name"]] = obj
            return
        near.pop(metadata["name"], None)
        if not near:
            del self._services[namespace]

    def reporter(self, resource: Resource, place: str) -> Callable[[str | None], None]:
        """What one watch says about its errors; the status has those of all."""

        def report(error: str | None) -> None:
            if error is None:
                self._errors.pop((resource, place), None)
            else:
                self._errors[resource, place] = error
            self._report("; ".join(dict.fromkeys(self._errors.values())) or None)

        return report

    def _slice(self, obj: Object) -> None:
        service = services.slice_service(obj)
        if service is not None:
            self._counts.setdefault(service, {})[key_of(obj)] = services.count_slice(obj)
            self._service_changed(service)

    def _slice_gone(self, obj: Object) -> None:
        service = services.slice_service(obj)
        if service is not None and self._counts.get(service, {}).pop(key_of(obj), None) is not None:
            if not self._counts[service]:
                del self._counts[service]
            self._service_changed(service)

    def _service_changed(self, key: str) -> None:
        namespace, _, name = key.partition("/")
        for part in self._parts:
            if part.source.resource is SERVICES and part.snapshot is not None and part.place in ("", namespace):
                obj = part.subscription.get(namespace, name)
                if obj is not None:
                    part.snapshot.put(key, self.describe(part.source, obj))


class _Part:
    """One kind of object in one namespace (or in all)."""

    def __init__(self, watcher: Watcher, source: Source, place: str) -> None:
        self.source = source
        self.place = place
        self.snapshot = watcher.new_snapshot() if watcher.new_snapshot is not None else None
        self._watcher = watcher
        self.subscription = subscribe(
            watcher.client,
            source.resource,
            namespace=place,
            fields=watcher.fields(source),
            on_add=self._add,
            on_update=self._update,
            on_delete=self._delete,
            report=watcher.reporter(source.resource, place),
        )

    def _add(self, obj: Object) -> None:
        watcher = self._watcher
        if self.snapshot is not None:
            self.snapshot.put(key_of(obj), watcher.describe(self.source, obj))
        if watcher.entities is not None and self.source.entities is not None:
            if self.source is services.SOURCE:
                watcher.keep_service(obj, True)
            if watcher.telling:
                for entity in watcher.entities_of(self.source, obj):
                    watcher.entities.state(entity)

    def _update(self, old: Object, new: Object) -> None:
        watcher = self._watcher
        if self.snapshot is not None:
            self.snapshot.put(key_of(new), watcher.describe(self.source, new))
        if watcher.entities is None or self.source.entities is None:
            return
        before = {(e.type, e.id): e for e in watcher.entities_of(self.source, old)}
        if self.source is services.SOURCE:
            watcher.keep_service(new, True)
        if not watcher.telling:
            return
        for entity in watcher.entities_of(self.source, new):
            if before.pop((entity.type, entity.id), None) != entity:
                watcher.entities.state(entity)
        for gone in before.values():
            watcher.entities.delete(gone)

    def _delete(self, obj: Object) -> None:
        watcher = self._watcher
        if self.snapshot is not None:
            self.snapshot.remove(key_of(obj))
        if watcher.entities is not None and self.source.entities is not None:
            for entity in watcher.entities_of(self.source, obj) if watcher.telling else ():
                watcher.entities.delete(entity)
            if self.source is services.SOURCE:
                watcher.keep_service(obj, False)
