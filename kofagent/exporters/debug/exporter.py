"""The exporter `debug`; see the package's docstring for what it promises."""

from __future__ import annotations

import sys
import time
from typing import TextIO

from kofagent.component.protocols import ColumnsConsumer, Context, Exporter, StartError
from kofagent.exporters.debug.config import Config
from kofagent.exporters.debug.counts import summary
from kofagent.telemetry.batch import AnyBatch
from kofagent.telemetry.signal import Signal


class Sampler:
    """zap's sampler: per key and second the first `initial`, then every `thereafter`-th."""

    def __init__(self, initial: int, thereafter: int) -> None:
        self._initial = initial
        self._thereafter = thereafter
        self._counts: dict[object, tuple[float, int]] = {}

    def take(self, key: object, now: float) -> bool:
        """Whether the event of `key` at `now` (seconds) is printed."""
        end, count = self._counts.get(key, (0.0, 0))
        if now >= end:
            end, count = now + 1.0, 0
        count += 1
        self._counts[key] = (end, count)
        if count <= self._initial:
            return True
        return self._thereafter > 0 and (count - self._initial) % self._thereafter == 0


class DebugExporter(Exporter[Config], ColumnsConsumer):
    """Prints batches; see the module."""

    def __init__(self, config: Config, context: Context) -> None:
        super().__init__(config, context)
        self._sent = {s: context.ledger.exporter(context.id, s).sent for s in Signal}
        self._sampler = Sampler(config.sampling_initial, config.sampling_thereafter)
        self._outputs: list[TextIO] = []
        self._own: list[TextIO] = []
        self._failed = False

    async def start(self) -> None:
        """Opens the output files."""
        if self.config.use_internal_logger:
            return
        for path in self.config.output_paths or ["stdout"]:
            if path in ("stdout", "stderr"):
                self._outputs.append(sys.stdout if path == "stdout" else sys.stderr)
                continue
            try:
                file = open(path, "a", encoding="utf-8", errors="backslashreplace")  # noqa: SIM115, ASYNC230
            except OSError as error:
                raise StartError(f"output_paths: {path}: {error.strerror}; name a writable file") from None
            self._outputs.append(file)
            self._own.append(file)

    async def stop(self) -> None:
        """Closes the output files."""
        for file in self._own:
            try:
                file.close()
            except OSError:
                pass
        self._own.clear()
        self._outputs.clear()

    async def consume(self, batch: AnyBatch) -> None:
        """Prints the batch if its turn has come."""
        # The turn is decided before anything is counted, so that a batch that is not printed costs nothing.
        if self._sampler.take(batch.signal, time.monotonic()):
            text = summary(batch)
            if self.config.verbosity != "basic":
                text = f"{text}\n{self._render(batch)}"
            self._print(text)
        self._sent[batch.signal](batch.count)

    def _render(self, batch: AnyBatch) -> str:
        try:
            if self.config.verbosity == "normal":
                from kofagent.exporters.debug.normal import render
            else:
                from kofagent.exporters.debug.detailed import render
            return render(batch)
        except Exception as error:
            # Printing is a side effect; a batch that cannot be decoded still counts as delivered.
            return f"(cannot be shown: {type(error).__name__})"

    def _print(self, text: str) -> None:
        if self.config.use_internal_logger:
            # The log's own sampling knows messages by their first argument: the word for counts, all of a tree.
            if "\n" in text:
                self.context.log.info(text.rstrip("\n"), extra={"multiline": True})
            else:
                word, _, fields = text.partition(" ")
                self.context.log.info(f"{word} %s", fields)
            return
        text = text.replace(" ", "\t", 1)  # as upstream's console encoding
        for file in self._outputs:
            try:
                file.write(text + "\n")
                file.flush()
            except (OSError, ValueError) as error:
                if not self._failed:
                    self._failed = True
                    self.context.log.warning("cannot print to %s: %s", getattr(file, "name", "output"), error)
