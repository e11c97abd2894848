"""What is known about the cluster, and resources enriched with it; pipelines of a service with equal options share it."""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import Callable, Mapping
from typing import Any

from kofagent.component.protocols import Context, StartError
from kofagent.component.statuses import Statuses
from kofagent.kubernetes.client import ApiClient, shared
from kofagent.kubernetes.informer import Subscription, subscribe
from kofagent.kubernetes.resources import (
    CRONJOBS,
    DAEMONSETS,
    DEPLOYMENTS,
    JOBS,
    NAMESPACES,
    NODES,
    PODS,
    REPLICASETS,
    STATEFULSETS,
    Resource,
)
from kofagent.kubernetes.watch import Timing
from kofagent.memory.memo import Memo
from kofagent.processors.k8sattributes.config import Config
from kofagent.processors.k8sattributes.extract import Extraction, Object, controller, owner_uid
from kofagent.processors.k8sattributes.patience import Patience
from kofagent.processors.k8sattributes.pods import Known, Place, Pods
from kofagent.wire import edit
from kofagent.wire.attributes import decode_attributes

RESOURCES: dict[str, Resource] = {
    "namespace": NAMESPACES,
    "node": NODES,
    "deployment": DEPLOYMENTS,
    "replicaset": REPLICASETS,
    "statefulset": STATEFULSETS,
    "daemonset": DAEMONSETS,
    "job": JOBS,
    "cronjob": CRONJOBS,
}
_KINDS_OF_OWNERS = {"replicaset": "ReplicaSet", "statefulset": "StatefulSet", "daemonset": "DaemonSet", "job": "Job"}

_Asked = tuple[bytes, str]
"""A resource and its sender's address."""
Enriched = tuple[bytes, "Known | None", "Place | None", "Place | None"]
"""The resource as it is sent, its pod where that is known, where that was found or first looked for, and an earlier place whose
pod may still become known."""


def _no_longer_used(gone: Mapping[_Asked, Enriched]) -> None:
    for key, (_, known, _, _) in gone.items():
        if known is not None and known.users is not None:
            known.users.discard(key)


class Cluster:
    """Watches, and turns resources into enriched ones. `start` and `stop` are counted."""

    timing: Timing | None = None
    """Changed by tests only."""

    def __init__(self, config: Config, context: Context) -> None:
        self._config = config
        self._context = context
        self._extraction = extraction = Extraction(config)
        rules = [[s.attribute for s in a.sources] for a in config.pod_association]
        self.pods = Pods([r for r in rules if r], extraction, config.pod_delete_grace_period)
        self._objects: dict[str, dict[str, Object]] = {}
        self._names: dict[str, dict[str, Object]] = {"namespace": {}, "node": {}}
        self._started = 0
        self._client: ApiClient | None = None
        self._subscriptions: list[Subscription] = []
        self._remembered: Memo[_Asked, Enriched] = Memo(
            "k8sattributes.resources", entries=16_384, size=8 << 20, dropped=_no_longer_used
        )
        self._unknown: Memo[_Asked, Enriched] = Memo("k8sattributes.unknown", entries=8192, size=4 << 20)
        self._of_pods: Memo[Known, tuple[bytes, Object, dict[str, str]]] = Memo("k8sattributes.pods", entries=512, size=8 << 20)
        """The packed pod, the pod, and what is added for it: for the next resource of the same pod (its other containers)."""
        self._patience = Patience(config.wait_for_pod)
        self._was_synced = False
        self._listing: asyncio.Task[None] | None = None
        self._listed_by = 0.0
        self._changed = asyncio.Event()
        self._timer: asyncio.TimerHandle | None = None
        self._loop: asyncio.AbstractEventLoop
        self._stopping = False

    async def start(self) -> None:
        """Subscribes; with `wait_for_metadata` returns when all is known. StartError."""
        self._started += 1
        if self._started > 1:
            await self._synced()
            return
        self._loop = asyncio.get_running_loop()
        self._stopping = False
        client = shared(self._context.host, self._config)
        await client.start()
        self._client = client
        self._context.ledger.gauge(
            "otelcol_k8s_watcher_pod_cache_size", "The known pods.", lambda: len(self.pods), processor=self._context.id
        )
        statuses = Statuses(self._context)
        filters = self._config.filter
        if filters.node_from_env_var and not filters.node_name():
            self._context.log.warning(
                "filter.node_from_env_var: the variable %s is not set; the pods of all nodes are watched",
                filters.node_from_env_var,
            )
        for kind, resource in RESOURCES.items():
            if not self._extraction.needs(kind):
                continue
            selector = ""
            if kind == "node" and filters.node_name():
                selector = f"metadata.name={filters.node_name()}"
            elif kind == "namespace" and not self._extraction.has_rules(kind):
                selector = "metadata.name=kube-system"
            self._objects[kind] = {}
            self._subscriptions.append(
                subscribe(
                    client,
                    resource,
                    namespace=filters.namespace if resource.namespaced else "",
                    field_selector=selector,
                    fields=self._extraction.fields(kind),
                    on_add=self._adds(kind),
                    on_update=self._updates(kind),
                    on_delete=self._deletes(kind),
                    report=statuses.of(kind),
                    timing=self.timing,
                )
            )
        self._subscriptions.append(
            subscribe(
                client,
                PODS,
                namespace=filters.namespace,
                label_selector=filters.label_selector(),
                field_selector=filters.field_selector(),
                fields=self._extraction.fields("pod"),
                on_add=self._put,
                on_update=lambda old, new: self._put(new),
                on_delete=self._remove,
                report=statuses.of("pod"),
                timing=self.timing,
            )
        )
        self._listed_by = self._loop.time() + self._config.wait_for_pod
        self._listing = asyncio.create_task(self._list(), name="k8sattributes: first lists")
        await self._synced()

    async def _list(self) -> None:
        for subscription in self._subscriptions:
            await subscription.synced.wait()
        self._news()  # of a kind that has no object, nobody else says that its list is there

    async def _synced(self) -> None:
        if not self._config.wait_for_metadata:
            return
        try:
            async with asyncio.timeout(self._config.wait_for_metadata_timeout):
                for subscription in self._subscriptions:
                    await subscription.synced.wait()
        except TimeoutError:
            errors = [s.informer.error for s in self._subscriptions if s.informer.error]
            raise StartError(
                f"wait_for_metadata: the pods were not known after {self._config.wait_for_metadata_timeout:g} s"
                + (f": {errors[0]}" if errors else "")
            ) from None

    async def stop(self) -> None:
        """Undoes one `start`; ends all waits for pods."""
        self._started -= 1
        if self._started:
            return
        self._stopping = True
        self._changed.set()
        if self._listing is not None:
            self._listing.cancel()
            self._listing = None
        self._context.ledger.forget("otelcol_k8s_watcher_pod_cache_size", processor=self._context.id)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        subscriptions, self._subscriptions = self._subscriptions, []
        for subscription in subscriptions:
            await subscription.stop()
        client, self._client = self._client, None
        if client is not None:
            await client.stop()

    # -- what changes ----------------------------------------------------------------------------------------------------

    def _put(self, pod: Object) -> None:
        self._drop(self.pods.put(pod, self._loop.time()))
        for place in self.pods.places_of(pod):
            self._patience.found(place)
        if self._timer is None and self.pods.next_expiry() is not None:
            self._expire()
        self._news()

    def _remove(self, pod: Object) -> None:
        self.pods.remove(pod, self._loop.time())
        self._expire()

    def _expire(self) -> None:
        """Forgets what is due, and schedules itself for the next."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._drop(self.pods.expire(self._loop.time()))
        self._unknown.clear()
        due = self.pods.next_expiry()
        if due is not None and not self._stopping:
            self._timer = self._loop.call_at(due + 1, self._expire)

    def _adds(self, kind: str) -> Callable[[Object], None]:
        def add(obj: Object) -> None:
            self._objects[kind][str(obj["metadata"].get("uid", ""))] = obj
            if kind in self._names:
                self._names[kind][obj["metadata"]["name"]] = obj
            self._all_new()

        return add

    def _updates(self, kind: str) -> Callable[[Object, Object], None]:
        add = self._adds(kind)
        return lambda old, new: add(new)

    def _deletes(self, kind: str) -> Callable[[Object], None]:
        def delete(obj: Object) -> None:
            # pods that are gone are still asked for: what was made from the object stays remembered for them
            self._objects[kind].pop(str(obj["metadata"].get("uid", "")), None)
            if kind in self._names and self._names[kind].get(obj["metadata"]["name"]) is obj:
                del self._names[kind][obj["metadata"]["name"]]

        return delete

    def _all_new(self) -> None:
        self._clear()
        self._news()

    def _drop(self, keys: set[_Asked]) -> None:
        for key in keys:
            self._remembered.forget(key)

    def _clear(self) -> None:
        _no_longer_used(dict(self._remembered.everything()))
        self._remembered.clear()
        self._unknown.clear()
        self._of_pods.clear()

    def _news(self) -> None:
        self._unknown.clear()
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    # -- what is asked ---------------------------------------------------------------------------------------------------

    def enrich(self, resource: bytes, sender: str) -> Enriched:
        """The resource with all known attributes added. ValueError if it is malformed."""
        # one dict look-up a resource: a resource is worked on when it is new or its pod has changed
        key = (resource, sender)
        self._remembered.counts.lookups += 1
        entry = self._remembered.get(key) or self._unknown.get(key)
        if entry is None:
            entry = self._unknown.find(key) or self._remembered.find(key)
        if entry is not None:
            return entry
        attributes = decode_attributes(edit.attributes(resource, edit.RESOURCE))
        place, known, hoped = self._look_up(attributes, sender)
        entry = (self._with(resource, attributes, place, known), known, place, hoped)
        if known is None or hoped is not None:  # until there is news of any pod
            self._unknown[key] = entry
        else:
            self._remembered[key] = entry
            if key in self._remembered:
                known.users = known.users or set()
                known.users.add(key)
        return entry

    def _look_up(self, attributes: dict[str, Any], sender: str) -> tuple[Place | None, Known | None, Place | None]:
        """The place where a pod is known, or the first place; that pod; the first place before it that a pod may still take.

        Nobody is hoped for where an excluded pod is.
        """
        first = hoped = None
        for place in self.pods.places(attributes, sender):
            known = self.pods.find(place)
            if known is not None:  # nothing is looked for in place of an excluded pod
                return place, None if known.ignored else known, hoped
            first = first or place
            hoped = hoped or (None if _nobody(place) else place)
        return first, None, hoped

    def _with(self, resource: bytes, attributes: dict[str, Any], place: Place | None, known: Known | None) -> bytes:
        extraction = self._extraction
        new: dict[str, Any] = {}

        def add(more: dict[str, Any]) -> None:
            for name, value in more.items():
                if attributes.get(name) in (None, "") and new.get(name) in (None, ""):
                    new[name] = value

        sender = self.pods.sender_of(place) if place is not None else ""
        if sender and "k8s.pod.ip" in extraction.wanted:
            add({"k8s.pod.ip": sender})
        pod = None
        if known is not None:
            pod, of_pod = self._of_pod(known)
            add(of_pod)
            add(extraction.of_container(pod, {**attributes, **new}))
        namespace = (pod["metadata"].get("namespace") if pod is not None else "") or _text(attributes, "k8s.namespace.name")
        node = ((pod.get("spec") or {}).get("nodeName") if pod is not None else "") or _text(attributes, "k8s.node.name")
        if "k8s.cluster.uid" in extraction.wanted and pod is not None and "kube-system" in self._names["namespace"]:
            add({"k8s.cluster.uid": str(self._names["namespace"]["kube-system"]["metadata"].get("uid", ""))})
        if namespace:
            self._add_of(add, "namespace", self._names["namespace"].get(namespace))
            if "service.namespace" in extraction.wanted:
                add({"service.namespace": namespace})
        found = self._names["node"].get(node) if node else None
        if found is not None:
            self._add_of(add, "node", found)
            if "k8s.node.uid" in extraction.wanted:
                add({"k8s.node.uid": str(found["metadata"].get("uid", ""))})
        if any(kind in self._objects for kind in (*_KINDS_OF_OWNERS, "deployment", "cronjob")):
            for kind, uid in self._owners(pod, attributes).items():
                self._add_of(add, kind, self._find(kind, uid))
        if not new:
            return resource
        there = {name: value for name, value in new.items() if name in attributes}
        return edit.patch(resource, edit.RESOURCE, upsert=there, insert=new)

    def _of_pod(self, known: Known) -> tuple[Object, dict[str, str]]:
        """A pod, and the attributes that all its resources get."""
        found = self._of_pods.find(known)
        if found is None or found[0] is not known.packed:
            pod = self.pods.pod(known)
            found = self._of_pods[known] = known.packed, pod, self._extraction.of_pod(pod, self._find)
        return found[1], found[2]

    def _add_of(self, add: Callable[[dict[str, Any]], None], kind: str, obj: Object | None) -> None:
        if obj is not None:
            add(self._extraction.of_object(kind, obj))

    def _owners(self, pod: Object | None, attributes: dict[str, Any]) -> dict[str, str]:
        """Uids of the workloads above a pod, by kind; from the resource where there is no pod."""
        out = {kind: owner_uid(pod, name) if pod is not None else "" for kind, name in _KINDS_OF_OWNERS.items()}
        for kind, above, name in (("replicaset", "deployment", "Deployment"), ("job", "cronjob", "CronJob")):
            seen = self._find(kind, out[kind])
            out[above] = controller(seen, name)[1] if seen is not None else ""
        return {kind: uid or _text(attributes, f"k8s.{kind}.uid") for kind, uid in out.items()}

    def _find(self, kind: str, uid: str) -> Object | None:
        return self._objects.get(kind, {}).get(uid) if uid else None

    def may_wait(self, place: Place) -> float:
        """Until when (loop time) telemetry waits for a pod that is not known; in the past when it has waited long enough."""
        now = self._loop.time()
        until = self._patience.until(place)
        if until is None:
            if self._stopping:
                return now
            if not self._was_synced and all(s.synced.is_set() for s in self._subscriptions):
                self._was_synced = True
                self._patience.renew()
            until = self._patience.begin(place, now)
        return now if self._stopping else until

    def may_wait_for_others(self) -> float:
        """As `may_wait`, for what a known pod belongs to, whose lists may come after that of the pods."""
        listed = self._listing is None or self._listing.done()
        return 0.0 if listed or self._stopping else self._listed_by

    def waited(self, found: bool) -> None:
        """Notes how a wait for pods ended."""
        self._patience.waited(found, self._loop.time())

    async def wait(self, until: float) -> None:
        """Returns when something has become known, or at `until` (loop time)."""
        changed = self._changed
        try:
            async with asyncio.timeout_at(until):
                await changed.wait()
        except TimeoutError:
            pass


def _nobody(place: Place) -> bool:
    """Whether a place is an address that no pod can have: loopback."""
    if not isinstance(place[1], str):
        return False
    try:
        return ipaddress.ip_address(place[1]).is_loopback
    except ValueError:
        return False


def _text(attributes: dict[str, Any], name: str) -> str:
    found = attributes.get(name)
    return found if isinstance(found, str) else ""


def cluster_of(config: Config, context: Context) -> Cluster:
    """The one `Cluster` that all pipelines with these options share."""
    key = ("k8sattributes cluster", context.id, config.model_dump_json())
    return context.host.shared(key, lambda: Cluster(config, context))
