"""Takes the values that a scraper reads, keeps those of enabled metrics, and writes them as OTLP points."""

from __future__ import annotations

from collections.abc import Mapping

from kofagent import __version__
from kofagent.receivers.hostmetrics.catalog import CATALOG, DEFAULT_SCHEMA_URL, SCHEMA_URL, SCOPE, Entry
from kofagent.receivers.hostmetrics.config import MetricOptions
from kofagent.transform.otlp_metrics import MetricWriter, Pairs
from kofagent.wire.attributes import Value


class _Sink:
    """One metric that is on: which attributes are kept, and the points of the present resource."""

    __slots__ = ("kept", "metric", "points", "strategy")

    def __init__(self, entry: Entry, options: MetricOptions) -> None:
        kept = options.attributes if options.attributes is not None else [a for a in entry.attributes if a not in entry.opt_in]
        self.metric = entry.metric
        self.kept = tuple((i, name) for i, name in enumerate(entry.attributes) if name in kept)
        self.strategy = options.aggregation_strategy or ("sum" if entry.metric.kind == "sum" else "avg")
        self.points: dict[Pairs, list[float]] = {}

    def add(self, value: float, attributes: tuple[Value, ...]) -> None:
        pairs: Pairs = tuple([(name, attributes[i]) for i, name in self.kept])
        seen = self.points.get(pairs)
        if seen is None:
            self.points[pairs] = [value, 1]
        elif self.strategy in ("sum", "avg"):
            seen[0] += value
            seen[1] += 1
        elif (value < seen[0]) == (self.strategy == "min"):
            seen[0] = value

    def result(self, point: list[float]) -> float:
        value, count = point
        if self.strategy != "avg" or count == 1:
            return value
        return value / count if self.metric.double else int(value) // int(count)


class Recorder:
    """Collects the points of one scraper, resource by resource, and counts what could not be read."""

    def __init__(self, scraper: str, options: Mapping[str, MetricOptions]) -> None:
        self._sinks: dict[str, _Sink] = {}
        for name, entry in CATALOG[scraper].items():
            chosen = options.get(name, MetricOptions())
            if entry.enabled if chosen.enabled is None else chosen.enabled:
                self._sinks[name] = _Sink(entry, chosen)
        self._writer = MetricWriter(SCOPE.format(scraper), __version__, SCHEMA_URL.get(scraper, DEFAULT_SCHEMA_URL))
        self.errored = 0
        self.problems: dict[str, str] = {}

    @property
    def names(self) -> list[str]:
        """The metrics that are on."""
        return list(self._sinks)

    def on(self, *names: str) -> bool:
        """Whether one of these metrics is enabled; the others need not be read."""
        return any(name in self._sinks for name in names)

    def add(self, name: str, value: float, *attributes: Value) -> None:
        """One value; `attributes` are the values of all the metric's attributes, in the catalogue's order."""
        sink = self._sinks.get(name)
        if sink is not None:
            sink.add(value, attributes)

    def failed(self, points: int, problem: str, detail: str = "") -> None:
        """`points` points could not be read. `problem` names the kind of problem, `detail` this case; logged once per kind."""
        self.errored += points
        self.problems.setdefault(problem, detail)

    def end_resource(self, resource: bytes, start_ns: int, time_ns: int) -> None:
        """The values since the last call are those of this resource (the body of a Resource message)."""
        for sink in self._sinks.values():
            for pairs, point in sink.points.items():
                self._writer.add(sink.metric, sink.result(point), pairs, start_ns=start_ns, time_ns=time_ns)
            sink.points.clear()
        self._writer.end_resource(resource)

    def forget(self) -> None:
        """Drops the values since the last `end_resource`: their process has ended."""
        for sink in self._sinks.values():
            sink.points.clear()

    def take(self) -> tuple[bytes, int, int, dict[str, str]]:
        """(payload, points, errored points, problems) since the last call."""
        payload, count = self._writer.take()
        errored, problems = self.errored, self.problems
        self.errored, self.problems = 0, {}
        return payload, count, errored, problems
