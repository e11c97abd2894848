"""The processor `transform`."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from kofagent.component.log_limit import LogLimit
from kofagent.component.mapping import Mapper, Unusable
from kofagent.component.protocols import Context, Processor
from kofagent.ottl import EvaluationError
from kofagent.processors.transform.config import Config, Group
from kofagent.processors.transform.groups import Evaluated, Report, Runner, joined, runner
from kofagent.telemetry.batch import Batch
from kofagent.telemetry.signal import Signal
from kofagent.wire import otlp


class TransformProcessor(Processor[Config]):
    """One instance per pipeline."""

    def __init__(self, config: Config, context: Context) -> None:
        super().__init__(config, context)
        self._log = LogLimit()
        self._runners: list[Runner] = []

    def explain(self) -> str:
        """The statements by group, with the context of each, and the functions that they are compiled to."""
        lines = []
        for group in self.config.groups(self.signal):
            lines.append(f"{group.place} ({group.context}), on error {group.error_mode}")
            lines += [f"  if {' '.join(condition.text.split())}" for condition in group.conditions]
            lines += [f"  {' '.join(statement.text.split())}" for statement in group.statements]
            if group.statements:
                lines += [f"    {line}" for line in runner(group, self.signal.value, self._failed).explain().splitlines()]
        return "".join(f"{line}\n" for line in lines)

    async def start(self) -> None:
        self._prepare(runner)
        self._mapper = Mapper(self, self._changed, by_record=True)

    def evaluate(self) -> None:
        """From now on the evaluator runs all statements: what compiled ones are compared with."""
        self._prepare(Evaluated)

    def _prepare(self, how: Callable[[Group, str, Report], Runner]) -> None:
        caches: dict[str, dict[str, Any]] = {}
        found = []
        for group in self.config.groups(self.signal):
            if group.statements:
                made = how(group, self.signal.value, self._failed)
                if isinstance(made, Evaluated):
                    made.share(caches.setdefault(group.context, {}))
                found.append(made)
        self._runners = joined(found)

    def consume(self, batch: Batch) -> Coroutine[Any, Any, None]:
        return self._mapper.consume(batch)

    def _changed(self, batch: Batch) -> Batch:
        payload, count = batch.payload, batch.count
        for each in self._runners:
            new = each.run(payload, batch.metadata)
            if new is not payload and isinstance(each, Evaluated) and batch.signal is Signal.METRICS:
                count = otlp.count(batch.signal.value, new)  # statements on metrics may add data points and whole metrics
            payload = new
        return batch if payload is batch.payload else Batch(batch.signal, payload, count, batch.metadata)

    def _failed(self, group: Group, text: str, error: EvaluationError | None) -> None:
        """What `error_mode` asks for; `error` is None for what is odd, but has been done."""
        if group.error_mode == "propagate" and error is not None:
            raise Unusable("condition error", f"{group.place}: {text}: {error}")
        if group.error_mode == "ignore" and self._log.due((group.place, text)):
            what = " ".join(text.split()) + (f" could not be run: {error}" if error is not None else "")
            self.context.log.warning("%s: %s (further cases are not logged)", group.place, what)
