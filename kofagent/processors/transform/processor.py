"""The processor `transform`."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any

from kofagent.component.log_limit import LogLimit
from kofagent.component.mapping import Mapper, Unusable
from kofagent.component.protocols import Context, Processor
from kofagent.ottl import Env, EvaluationError
from kofagent.ottl.items import items
from kofagent.ottl.messages import read_request
from kofagent.processors.transform.config import Config, Group
from kofagent.telemetry.batch import Batch, Metadata
from kofagent.telemetry.signal import Signal
from kofagent.wire import otlp


class TransformProcessor(Processor[Config]):
    """One instance per pipeline."""

    def __init__(self, config: Config, context: Context) -> None:
        super().__init__(config, context)
        self._log = LogLimit()
        self._groups: list[Group] = []
        self._caches: dict[str, dict[str, Any]] = {}

    def explain(self) -> str:
        """The statements by group, with the context of each."""
        lines = []
        for group in self.config.groups(self.signal):
            lines.append(f"{group.place} ({group.context}), on error {group.error_mode}")
            lines += [f"  if {condition.text}" for condition in group.conditions]
            lines += [f"  {' '.join(statement.text.split())}" for statement in group.statements]
        return "".join(f"{line}\n" for line in lines)

    async def start(self) -> None:
        self._groups = [group for group in self.config.groups(self.signal) if group.statements]
        self._mapper = Mapper(self, self._changed)

    def consume(self, batch: Batch) -> Coroutine[Any, Any, None]:
        return self._mapper.consume(batch)

    def _changed(self, batch: Batch) -> Batch:
        if not self._groups:
            return batch
        request = read_request(batch.signal.value, batch.payload)
        for group in self._groups:
            self._run(group, request, batch.metadata)
        payload = request.SerializeToString()
        if payload == batch.payload:
            return batch
        # Statements on metrics may add data points and whole metrics.
        count = otlp.count(batch.signal.value, payload) if batch.signal is Signal.METRICS else batch.count
        return Batch(batch.signal, payload, count, batch.metadata)

    def _run(self, group: Group, request: Any, metadata: Metadata | None) -> None:
        # hot: otlp_transform, 15 us a record by two statements; the messages are Google's, changed in place
        shared = self._caches.setdefault(group.context, {}) if group.shared_cache else None

        def complain(message: str) -> None:
            self._failed(group, message, None)

        for env in items(group.context, request, metadata):
            if shared is not None:
                env.cache = shared
            env.complain = complain
            if group.conditions and not self._any(group, env):
                continue
            for statement in group.statements:
                try:
                    statement.apply(env)
                except EvaluationError as error:
                    self._failed(group, statement.text, error)

    def _any(self, group: Group, env: Env) -> bool:
        for condition in group.conditions:
            try:
                if condition.test(env):
                    return True
            except EvaluationError as error:
                self._failed(group, condition.text, error)
        return False

    def _failed(self, group: Group, text: str, error: EvaluationError | None) -> None:
        """What `error_mode` asks for; `error` is None for what is odd, but has been done."""
        if group.error_mode == "propagate" and error is not None:
            raise Unusable("condition error", f"{group.place}: {text}: {error}")
        if group.error_mode == "ignore" and self._log.due((group.place, text)):
            what = " ".join(text.split()) + (f" could not be run: {error}" if error is not None else "")
            self.context.log.warning("%s: %s (further cases are not logged)", group.place, what)
