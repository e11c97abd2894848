"""`filter`: leaves out entries for which an expression is true.

They are counted under its id.
"""

from __future__ import annotations

import random

from pydantic import Field as Option

from kofagent.operators.access import Access
from kofagent.operators.entry import Entry
from kofagent.operators.expression import ExpressionError
from kofagent.operators.operator import Run, Transformer
from kofagent.operators.options import ExpressionText, TransformerConfig


class Config(TransformerConfig):
    """Options of filter."""

    expr: ExpressionText = Option(description="Expression; entries for which it is true are left out.")
    drop_ratio: float = Option(1.0, ge=0, le=1, description="Share of those that are left out, 0 to 1.")


class Filter(Transformer[Config]):
    """Leaves out entries for which an expression is true."""

    def process(self, entry: Entry, run: Run) -> None:
        try:
            matches = self.config.expr.test(entry)
        except ExpressionError as error:
            # Upstream drops an entry that its filter cannot judge; so do we, counted.
            run.failed(self, error, "drop")
            run.dropped(f"operator/{self.id}", 1)
            return
        if matches and (self.config.drop_ratio >= 1.0 or random.randrange(1000) < int(self.config.drop_ratio * 1000)):
            run.filtered(f"operator/{self.id}", 1)
            return
        self.write(entry, run)

    def access(self) -> Access | None:
        # With a share in between the outcome is random.
        return self.by_options() if self.config.drop_ratio in (0.0, 1.0) else None


OPERATOR = Filter
