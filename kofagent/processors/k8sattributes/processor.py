"""The processor `k8sattributes`."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Coroutine
from typing import Any

from kofagent.component.mapping import Mapper
from kofagent.component.protocols import Context, Processor
from kofagent.net.peer import sender_address
from kofagent.processors.k8sattributes.cluster import Cluster, Enriched, cluster_of
from kofagent.processors.k8sattributes.config import Config
from kofagent.processors.k8sattributes.extract import Extraction
from kofagent.processors.k8sattributes.pods import Pods
from kofagent.telemetry.batch import Batch
from kofagent.telemetry.signal import Signal
from kofagent.transform.resources import ResourceMap
from kofagent.wire import edit, otlp
from kofagent.wire.attributes import decode_attributes


class K8sAttributes(Processor[Config]):
    """One instance per pipeline; they share what they know."""

    _cluster: Cluster | None = None
    _running = False

    def __init__(self, config: Config, context: Context) -> None:
        super().__init__(config, context)
        rules = [[s.attribute for s in a.sources] for a in config.pod_association if a.sources]
        self._asks_sender = not rules or any("" in names for names in rules)
        self._places = Pods(rules, Extraction(config), 0)
        self._passing = ResourceMap(self._with_sender)
        self._counters: dict[tuple[str, str], Callable[[float], None]] = {}

    def explain(self) -> str:
        """What is added and how pods are found."""
        if self.config.passthrough:
            return "passthrough: the sender's address as k8s.pod.ip\n"
        rules = [" + ".join(name or "connection" for name in names) for names in self._places.rules]
        return (
            f"adds {', '.join(sorted(self.config.extract.wanted()))}\npods are found by {', else '.join(rules)}\n"
            f"waits at most {self.config.wait_for_pod:g} s for a pod that is not known yet\n"
        )

    async def start(self) -> None:
        self._mapper = Mapper(self, self._changed)
        self._unknown = self.context.ledger.counter(
            "kofagent_k8sattributes_unknown_items",
            "Items passed on without their pod being known.",
            processor=self.context.id,
            otel_signal=self.signal.value,
        )
        if not self.config.passthrough:
            self._cluster = cluster_of(self.config, self.context)
            self._running = True
            await self._cluster.start()

    async def stop(self) -> None:
        if self._cluster is not None and self._running:
            self._running = False
            await self._cluster.stop()

    def consume(self, batch: Batch) -> Coroutine[Any, Any, None]:
        return self._mapper.consume(batch)

    async def _changed(self, batch: Batch) -> Batch:
        sender = sender_address() if self._asks_sender else ""
        if self._cluster is None:
            return self._passing.apply(batch, sender)
        request = otlp.parse_request(batch.payload)
        entries = list(request.resources)
        found = [self._cluster.enrich(entry.resource, sender) for entry in entries]
        if self.config.wait_for_pod and (self._cluster.may_wait_for_others() or any(hoped is not None for *_, hoped in found)):
            found = await self._wait_for(self._cluster, [entry.resource for entry in entries], sender, found)
        touched = False
        seen: Counter[tuple[str, str]] = Counter()
        for entry, (new, known, place, _) in zip(entries, found, strict=True):
            seen["error" if known is None else "success", self._cluster.pods.describe(place)] += 1
            if known is None and place is not None:
                self._unknown(_items(batch.signal, entry))
            if new != entry.resource:
                entry.resource = new
                touched = True
        for labels, count in seen.items():
            self._counter(labels)(count)
        return Batch(batch.signal, request.SerializeToString(), batch.count, batch.metadata) if touched else batch

    async def _wait_for(self, cluster: Cluster, resources: list[bytes], sender: str, found: list[Enriched]) -> list[Enriched]:
        """Looks up again while an unknown pod, or the first list of what pods belong to, may still arrive."""
        loop = asyncio.get_running_loop()
        waited = False
        while True:
            waits = [cluster.may_wait(hoped) for *_, hoped in found if hoped is not None]
            others = cluster.may_wait_for_others() if any(known is not None for _, known, _, _ in found) else 0.0
            until = max([others, *waits])
            if until <= loop.time():
                if waited:
                    cluster.waited(not waits)
                return found
            waited = True
            await cluster.wait(until)
            found = [cluster.enrich(resource, sender) for resource in resources]

    def _counter(self, labels: tuple[str, str]) -> Callable[[float], None]:
        counter = self._counters.get(labels)
        if counter is None:
            counter = self._counters[labels] = self.context.ledger.counter(
                "otelcol_k8s_pod_association",
                "Resources whose pod was looked up.",
                processor=self.context.id,
                status=labels[0],
                pod_identifier=labels[1],
                otel_signal=self.signal.value,
            )
        return counter

    def _with_sender(self, resource: bytes, sender: str) -> bytes:
        """passthrough: adds the address by which the pod would be found as k8s.pod.ip."""
        attributes = decode_attributes(edit.attributes(resource, edit.RESOURCE))
        place = self._places.place(attributes, sender)
        address = self._places.sender_of(place) if place is not None else ""
        if not address or attributes.get("k8s.pod.ip") not in (None, ""):
            return resource
        return edit.patch(resource, edit.RESOURCE, upsert={"k8s.pod.ip": address})


def _items(signal: Signal, entry: Any) -> int:
    if signal is Signal.METRICS:
        request = otlp.new_request()
        request.resources.append(entry)
        return otlp.count(signal.value, request.SerializeToString())
    return sum([len(scope.records) for scope in entry.scopes])
