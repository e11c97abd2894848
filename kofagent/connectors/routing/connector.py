"""The connector `routing`; see the package's docstring for what it promises."""

from __future__ import annotations

from collections.abc import Callable

from kofagent.component.fan_out import all_of
from kofagent.component.log_limit import LogLimit
from kofagent.component.protocols import Connector, Context
from kofagent.connectors.routing.config import SIGNAL_OF, Config, Route
from kofagent.connectors.routing.table import Splitter
from kofagent.ottl import EvaluationError
from kofagent.ottl.items import items
from kofagent.ottl.messages import read_request
from kofagent.telemetry.batch import Batch
from kofagent.telemetry.refused import Refused
from kofagent.telemetry.signal import Signal
from kofagent.wire import otlp

_LOG_EVERY = 30.0


class RoutingConnector(Connector[Config]):
    """Splits batches by the table."""

    def __init__(self, config: Config, context: Context) -> None:
        super().__init__(config, context)
        self.outputs = {}
        self._splitters = [(route, Splitter(route.parsed, self._test)) for route in config.table]
        self._log = LogLimit(_LOG_EVERY)

    async def consume(self, batch: Batch) -> None:
        """As `Consumer.consume`: returns when all pipelines that get a part of the batch own it."""
        try:
            parts = self._route(batch)
        except EvaluationError as error:
            self._drop(batch, "condition error", str(error))
        except ValueError:
            self._drop(batch, "malformed", "the batch cannot be decoded")
        else:
            if parts:
                await all_of([self.outputs[name].consume(part) for name, part in parts])

    def _drop(self, batch: Batch, reason: str, detail: str) -> None:
        self.context.ledger.dropped(self.context.id, batch.signal, reason, batch.count)
        raise Refused(reason, detail, permanent=True) from None

    def _route(self, batch: Batch) -> list[tuple[str, Batch]]:
        signal = batch.signal
        taken: dict[str, list[Batch]] = {}
        rest = nowhere = batch
        for route, splitter in self._splitters:
            if not rest.payload:
                break
            if SIGNAL_OF.get(route.parsed[1], signal) is not signal:
                continue
            yes, no = self._split(splitter, rest)
            if yes.payload:
                yes = _edited(route, yes)
                for name in self._of(route.pipelines, signal):
                    taken.setdefault(name, []).append(yes)
            # With copies, what is left is more than what no route took.
            nowhere = no if nowhere is rest else self._split(splitter, nowhere)[1]
            rest = no if route.action == "move" else rest
        if rest.payload:
            for name in self._of(self.config.default_pipelines, signal):
                taken.setdefault(name, []).append(rest)
                nowhere = Batch(signal, b"", 0)
        if nowhere.count:
            self.context.ledger.filtered(self.context.id, signal, "unmatched", nowhere.count)
        return [(name, Batch.join(parts)) for name, parts in taken.items()]

    @staticmethod
    def _split(splitter: Splitter, batch: Batch) -> tuple[Batch, Batch]:
        """(matching, rest) as batches; where all goes one way it is the same object."""
        signal, payload = batch.signal, batch.payload
        yes, no = splitter.split(signal.value, payload, batch.metadata)
        if yes is payload:
            return batch, Batch(signal, b"", 0, batch.metadata)
        if no is payload:
            return Batch(signal, b"", 0, batch.metadata), batch
        matched = otlp.count(signal.value, yes)
        return Batch(signal, yes, matched, batch.metadata), Batch(signal, no, batch.count - matched, batch.metadata)

    def _of(self, names: list[str], signal: Signal) -> list[str]:
        return [name for name in names if name.split("/", 1)[0] == signal.value]

    def _test(self, look: Callable[[], bool]) -> bool:
        try:
            return look()
        except EvaluationError as error:
            if self.config.error_mode == "propagate":
                raise
            if self.config.error_mode == "ignore" and self._log.due():
                self.context.log.warning("a condition could not be evaluated and counts as not matching: %s", error)
            return False


def _edited(route: Route, batch: Batch) -> Batch:
    """The batch with what the route's statement changes."""
    if route.edit is None:
        return batch
    request = read_request(batch.signal.value, batch.payload)
    for env in items(route.parsed[1], request, batch.metadata):
        route.edit(env)
    return Batch(batch.signal, request.SerializeToString(), batch.count, batch.metadata)
