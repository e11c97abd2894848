"""The ledger: what came in, what went out, and for everything else a counted reason.

Names are the Go collector's (`otelcol_receiver_accepted_log_records_total`, ...), so that dashboards keep working; the two
families the Go collector lacks are `kofagent_dropped_items_total{reason}` and `kofagent_filtered_items_total{rule}`.
For every pipeline: accepted + inherited = sent + filtered + dropped + queued, without what receivers dropped at the door: that was
refused, never accepted, and its drops have the receiver as their component.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import TypeVar

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.samples import Sample

from kofagent.telemetry.reasons import checked
from kofagent.telemetry.signal import Signal

BATCH_SIZES = (
    10,
    25,
    50,
    75,
    100,
    250,
    500,
    750,
    1000,
    2000,
    3000,
    4000,
    5000,
    6000,
    7000,
    8000,
    9000,
    10000,
    20000,
    30000,
    50000,
    100000,
)

M = TypeVar("M", Counter, Gauge, Histogram)


class Ledger:
    """Counters of one running service, in a separate registry, so that they survive a reload."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry(auto_describe=False)
        self._metrics: dict[str, Counter | Gauge | Histogram] = {}

    def counter(self, name: str, help: str, **labels: str) -> Callable[[float], None]:
        """A function that adds to the counter `name` (without `_total`) with these labels; made once, called often."""
        return self._child(Counter, name, labels, lambda: Counter(name, help, tuple(labels), registry=self.registry)).inc

    def gauge(self, name: str, help: str, read: Callable[[], float] | None = None, **labels: str) -> Callable[[float], None]:
        """A gauge: `read`, if given, is called at each collection; otherwise the returned function sets the value."""
        child = self._child(Gauge, name, labels, lambda: Gauge(name, help, tuple(labels), registry=self.registry))
        if read is not None:
            child.set_function(read)
        return child.set

    def histogram(self, name: str, help: str, buckets: tuple[float, ...] = BATCH_SIZES, **labels: str) -> Callable[[float], None]:
        """A function that observes a value; the default buckets are those of the Go collector's batch sizes."""
        make = partial(Histogram, name, help, tuple(labels), buckets=buckets, registry=self.registry)
        return self._child(Histogram, name, labels, make).observe

    def _child(self, kind: type[M], name: str, labels: Mapping[str, str], make: Callable[[], M]) -> M:
        """The metric `name` with these labels; TypeError for a name that another kind of metric has."""
        metric = self._metrics.get(name)
        if metric is None:
            metric = self._metrics[name] = make()
        if not isinstance(metric, kind):
            raise TypeError(f"{name} is a {type(metric).__name__}, not a {kind.__name__}")
        return metric.labels(**labels) if labels else metric

    def forget(self, name: str, **labels: str) -> None:
        """Removes one labelled child of a metric, e.g. the gauge of a component that a reload stopped."""
        metric = self._metrics.get(name)
        if metric is not None and labels:
            try:
                metric.remove(*labels.values())
            except KeyError:
                pass

    def total(self, name: str, **labels: str) -> float:
        """The value of one sample (`name` with its suffix), 0.0 when it was never touched: for tests, status and `dev`."""
        return next((s.value for s in self._samples(name) if s.labels == labels), 0.0)

    def sum(self, name: str) -> float:
        """The sum of all children of the samples called `name`."""
        return sum(s.value for s in self._samples(name))

    def _samples(self, name: str) -> Iterator[Sample]:
        """The samples called `name`; only their metric is collected."""
        for family in self.registry.restricted_registry([name]).collect():
            yield from family.samples

    def dropped(self, component: str, signal: Signal, reason: str, items: int) -> None:
        """Counts items that will never be delivered. `reason` is one of `telemetry.reasons`."""
        self.counter(
            "kofagent_dropped_items",
            "Items dropped, by reason.",
            component=component,
            signal=signal.value,
            reason=checked(reason),
        )(items)

    def filtered(self, component: str, signal: Signal, rule: str, items: int) -> None:
        """Counts items that the configuration leaves out. `rule` names the rule by its place or id."""
        self.counter(
            "kofagent_filtered_items",
            "Items left out by the configuration, by rule.",
            component=component,
            signal=signal.value,
            rule=rule,
        )(items)

    def receiver(self, component: str, signal: Signal, transport: str = "") -> ReceiverAccount:
        """The account of a receiver for one signal and transport (`http`, `grpc` or empty, as upstream's receiver has it)."""
        return ReceiverAccount(self, component, signal, transport)

    def scraper(self, component: str, scraper: str) -> ScraperAccount:
        """The account of one scraper of a receiver that collects metrics."""
        return ScraperAccount(self, component, scraper)

    def processor(self, component: str, signal: Signal) -> ProcessorAccount:
        """The account of a processor in the pipelines of one signal."""
        return ProcessorAccount(self, component, signal)

    def exporter(self, component: str, signal: Signal) -> ExporterAccount:
        """The account of an exporter for one signal."""
        return ExporterAccount(self, component, signal)


class ReceiverAccount:
    """`accepted(n)` once the items are owned; `refused(n)` if nothing took them."""

    def __init__(self, ledger: Ledger, component: str, signal: Signal, transport: str) -> None:
        labels = {"receiver": component, "transport": transport}
        items = signal.items
        self.accepted = ledger.counter(f"otelcol_receiver_accepted_{items}", "Items that were taken into a pipeline.", **labels)
        self.refused = ledger.counter(f"otelcol_receiver_refused_{items}", "Items that no pipeline would take.", **labels)


class ScraperAccount:
    """`scraped(n)`: metric points that were read; `errored(n)`: those that could not be read."""

    def __init__(self, ledger: Ledger, component: str, scraper: str) -> None:
        labels = {"receiver": component, "scraper": scraper}
        self.scraped = ledger.counter("otelcol_scraper_scraped_metric_points", "Metric points that were read.", **labels)
        self.errored = ledger.counter("otelcol_scraper_errored_metric_points", "Metric points that could not be read.", **labels)


class ProcessorAccount:
    """`incoming(n)` and `outgoing(n)`; the difference is in `Ledger.dropped` and `Ledger.filtered`."""

    def __init__(self, ledger: Ledger, component: str, signal: Signal) -> None:
        labels = {"processor": component, "otel_signal": signal.value}
        self.incoming = ledger.counter("otelcol_processor_incoming_items", "Items passed to the processor.", **labels)
        self.outgoing = ledger.counter("otelcol_processor_outgoing_items", "Items the processor passed on.", **labels)


class ExporterAccount:
    """`sent(n)` after the backend took them; `send_failed(n)` when given up; `enqueue_failed(n)` when the queue was full."""

    def __init__(self, ledger: Ledger, component: str, signal: Signal) -> None:
        items = signal.items
        self.sent = ledger.counter(f"otelcol_exporter_sent_{items}", "Items the backend took.", exporter=component)
        self.send_failed = ledger.counter(
            f"otelcol_exporter_send_failed_{items}", "Items the backend did not take.", exporter=component
        )
        self.enqueue_failed = ledger.counter(
            f"otelcol_exporter_enqueue_failed_{items}", "Items refused because the sending queue was full.", exporter=component
        )
