"""`recombine`: joins consecutive entries of one source into one.

Incomplete entries are passed on after `force_flush_period`.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field as Option
from pydantic import model_validator

from kofagent.config.base import ByteSize, Duration
from kofagent.operators.entry import Entry
from kofagent.operators.errors import OperatorError
from kofagent.operators.expression import ExpressionError
from kofagent.operators.operator import Run, Transformer
from kofagent.operators.options import AnyField, ExpressionText, TransformerConfig
from kofagent.operators.series import Series
from kofagent.operators.text import bytes_of, whole


class Config(TransformerConfig):
    """Options of recombine."""

    is_first_entry: ExpressionText | None = Option(None, description="Expression: true for the first entry of a series.")
    is_last_entry: ExpressionText | None = Option(None, description="Expression: true for the last entry of a series.")
    combine_field: AnyField = Option(description="Field with the text that is joined.")
    combine_with: str = Option("\n", description="String between the joined texts.")
    max_batch_size: int = Option(1000, ge=0, description="Maximum number of entries in a series; 0: no limit.")
    max_unmatched_batch_size: int = Option(
        100, ge=0, description="Maximum number of entries in a series without a match; 0: no limit."
    )
    overwrite_with: Literal["oldest", "newest", ""] = Option("oldest", description="Entry whose other fields are kept.")
    force_flush_period: Duration = Option(5.0, description="Longest wait for the end of a series.")
    source_identifier: AnyField = Option(
        'attributes["log.file.path"]', validate_default=True, description="Field that tells sources apart."
    )
    max_sources: int = Option(1000, ge=1, description="Maximum number of sources at a time; one more flushes all series.")
    max_log_size: ByteSize = Option(0, ge=0, description="Maximum size of the joined text, in bytes; 0: no limit.")

    @model_validator(mode="after")
    def _one(self) -> Config:
        if (self.is_first_entry is None) == (self.is_last_entry is None):
            raise ValueError("set exactly one of is_first_entry and is_last_entry")
        return self


class Recombine(Transformer[Config]):
    """Joins entries. State is kept per path and source."""

    holds = True

    def __init__(self, config: Config, id: str) -> None:
        super().__init__(config, id)
        matcher = config.is_first_entry or config.is_last_entry
        assert matcher is not None  # the options have exactly one of them
        self.matcher = matcher

    def process(self, entry: Entry, run: Run) -> None:
        first = self.config.is_first_entry
        try:
            skipped = self.skipped(entry)
            matches = not skipped and self.matcher.test(entry)
        except ExpressionError as error:
            self.handle(entry, OperatorError(str(error)), run)
            return
        except Exception as error:
            self.handle(entry, error, run)
            return
        if skipped:
            self.write(entry, run)
            return
        found = self.config.source_identifier.get(entry)
        source = found if isinstance(found, str) else ""
        if matches and first is not None:
            self._hand_out(source, run)
        self._add(entry, source, matches, run)
        if matches and first is None:
            self._hand_out(source, run)

    def _add(self, entry: Entry, source: str, matches: bool, run: Run) -> None:
        state, config = run.state(self), self.config
        series = state.get(source)
        if series is None:
            if len(state) >= config.max_sources:
                for other in list(state):
                    self._hand_out(other, run)
            series = state[source] = Series(entry)
        elif config.overwrite_with == "newest":
            series.base = entry
        series.add(run)
        series.matched = series.matched or matches
        text = config.combine_field.get(entry)
        if not isinstance(text, str):
            # The entry stays in the series without a text, as upstream does; its other fields count only where it is the base.
            run.failed(self, OperatorError(f"the entry has no string in {config.combine_field}"), "join without it")
            return
        if series.size > 0:
            series.size += len(config.combine_with.encode())
        series.parts.append(text)
        series.size += len(bytes_of(text))
        if (
            (config.max_log_size and series.size > config.max_log_size)
            or (config.max_batch_size and series.count >= config.max_batch_size)
            or (not series.matched and config.max_unmatched_batch_size and series.count >= config.max_unmatched_batch_size)
        ):
            self._hand_out(source, run)

    def _hand_out(self, source: str, run: Run) -> None:
        series = run.state(self).pop(source, None)
        if series is None:
            return
        # While the joined text is empty no combine_with is added.
        parts = series.parts
        while len(parts) > 1 and not parts[0]:
            parts.pop(0)
        self.config.combine_field.set(series.base, whole(self.config.combine_with.join(parts)))
        self.write(series.base, run)

    def joins(self, line: bytes, waiting: bool) -> bool:
        return not self.config.combine_with

    def flush(self, run: Run, now: int, force: bool) -> None:
        period = int(self.config.force_flush_period * 1e9)
        for source, series in list(run.state(self).items()):
            if force or now - series.first_observed >= period:
                self._hand_out(source, run)


OPERATOR = Recombine
