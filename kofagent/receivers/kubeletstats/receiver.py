"""The receiver `kubeletstats`."""

from __future__ import annotations

from typing import Any

from kofagent.component.log_limit import LogLimit
from kofagent.component.offering import Offer
from kofagent.component.polling import Polling
from kofagent.component.protocols import Context, Receiver
from kofagent.component.statuses import Statuses
from kofagent.kubernetes import quantity
from kofagent.kubernetes.client import ApiClient, shared
from kofagent.kubernetes.informer import Subscription, subscribe
from kofagent.kubernetes.lists import split_list
from kofagent.kubernetes.options import ApiOptions
from kofagent.kubernetes.resources import NODES
from kofagent.kubernetes.trim import Object
from kofagent.receivers.kubeletstats.catalog import NODE_RATIOS, OWN_RATIOS
from kofagent.receivers.kubeletstats.claims import Claims
from kofagent.receivers.kubeletstats.config import Config
from kofagent.receivers.kubeletstats.kubelet import Kubelet, KubeletError
from kofagent.receivers.kubeletstats.pods import PodFacts
from kofagent.receivers.kubeletstats.summary import Capacity, Converter, Outcome
from kofagent.telemetry.batch import Batch
from kofagent.telemetry.clock import now_ns
from kofagent.telemetry.signal import Signal
from kofagent.wire.foreign_json import read_json


class KubeletStats(Receiver[Config]):
    """Reads a kubelet every `collection_interval` and hands its values on as one batch."""

    signals = frozenset({Signal.METRICS})

    def __init__(self, config: Config, context: Context) -> None:
        super().__init__(config, context)
        on = config.on()
        self._needs_amounts = bool(on.intersection(OWN_RATIOS))
        self._needs_capacity = bool(on.intersection(NODE_RATIOS))
        self._needs_pods = bool(config.extra_metadata_labels) or self._needs_amounts
        self._converter = Converter(config, now_ns())
        self._kubelet: Kubelet | None = None
        self._api: ApiClient | None = None
        self._node: Subscription | None = None
        self._claims: Claims | None = None
        self._capacity = Capacity()
        self._polling: Polling | None = None
        self._log = LogLimit()
        self._statuses = Statuses(context)
        self._account = context.ledger.scraper(context.id, "kubeletstats")

    def explain(self) -> str:
        """The metrics that are on."""
        return f"of {', '.join(self.config.metric_groups)}: {', '.join(sorted(self.config.on()))}\n"

    async def start(self) -> None:
        config = self.config
        kubelet = Kubelet(config, self.context.host.kubeconfig)
        needs_claims = (
            config.k8s_api_config is not None
            and "volume" in config.metric_groups
            and "k8s.volume.type" in config.extra_metadata_labels
        )
        if needs_claims or self._needs_capacity:
            self._api = api = shared(self.context.host, config.k8s_api_config or ApiOptions())
            await api.start()
            if needs_claims:
                self._claims = Claims(api)
            if self._needs_capacity:
                self._node = subscribe(
                    api,
                    NODES,
                    field_selector=f"metadata.name={config.node}",
                    fields=("status.capacity",),
                    on_add=self._learn,
                    on_update=lambda old, new: self._learn(new),
                    report=lambda error: self._tell("node", error),
                )
        await kubelet.start()
        self._kubelet = kubelet
        self._polling = Polling(
            self.context,
            self._collect,
            Offer(self.context, self.outputs[Signal.METRICS], Signal.METRICS).or_drop,
            interval=config.collection_interval,
            initial_delay=config.initial_delay,
            report=self._statuses.of("collection"),
        )
        self._polling.start()

    async def stop(self) -> None:
        if self._polling is not None:
            polling, self._polling = self._polling, None
            await polling.stop()
        if self._node is not None:
            node, self._node = self._node, None
            await node.stop()
        if self._kubelet is not None:
            kubelet, self._kubelet = self._kubelet, None
            await kubelet.stop()
        if self._api is not None:
            api, self._api = self._api, None
            await api.stop()

    def _learn(self, node: Object) -> None:
        capacity = (node.get("status") or {}).get("capacity") or {}
        try:
            self._capacity = Capacity(
                quantity.cores(str(capacity.get("cpu", "0"))), quantity.whole(str(capacity.get("memory", "0")))
            )
        except ValueError:
            self._capacity = Capacity()

    async def _collect(self) -> Batch | None:
        try:
            outcome = await self.collect()
        except KubeletError as error:
            self._account.errored(1)
            self._tell("summary", str(error))
            return None
        self._tell("summary", None)
        for kind, case in outcome.problems.items():
            self._log_once(kind, case)
        self._tell("part", "; ".join(outcome.problems) or None, log=False)
        self._account.scraped(outcome.points)
        self._account.errored(outcome.errored)
        return Batch(Signal.METRICS, outcome.payload, outcome.points) if outcome.points else None

    async def collect(self) -> Outcome:
        """Reads the kubelet once. KubeletError when it has no usable summary."""
        assert self._kubelet is not None
        kubelet = self._kubelet
        summary = _json(await kubelet.get("/stats/summary"), kubelet.where)
        facts = None
        if self._needs_pods:
            try:
                facts = self._facts(await kubelet.get("/pods"))
                self._tell(
                    "pods",
                    f"{kubelet.where} returned {facts.malformed} malformed pods" if facts.malformed else None,
                )
            except KubeletError as error:
                self._tell("pods", str(error))
            except ValueError:
                self._tell("pods", f"{kubelet.where} answered /pods with something other than a list of pods")
        if self._claims is not None and facts is not None:
            await self._claims.learn(facts.volumes, facts.namespaces)
        try:
            return self._converter.convert(summary, facts, self._capacity, self._claims, now_ns())
        except ValueError as error:
            raise KubeletError(f"{kubelet.where}: {error}") from None

    def _facts(self, body: bytes) -> PodFacts:
        labels = self.config.extra_metadata_labels
        # Pod by pod: all pods of a node at once would be the largest thing this receiver ever holds.
        pods, _ = split_list(body.decode())
        return PodFacts(pods, ids="container.id" in labels, volumes="k8s.volume.type" in labels, amounts=self._needs_amounts)

    def _tell(self, what: str, error: str | None, log: bool = True) -> None:
        """Sets the status of one part; an error is logged when it comes, and its end."""
        before = self._statuses.set(what, error)
        if error is None and before is not None:
            self.context.log.info("works again: %s", before)
        elif error is not None and log and error != before:
            self._log_once(error, "")

    def _log_once(self, problem: str, detail: str) -> None:
        if self._log.due(problem):
            self.context.log.warning("%s%s (further cases are counted, not logged)", problem, f": {detail}" if detail else "")


def _json(body: bytes, where: str) -> Any:
    try:
        return read_json(body)
    except ValueError:
        raise KubeletError(f"{where} answered /stats/summary with something other than JSON") from None
