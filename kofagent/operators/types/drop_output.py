"""`drop_output`: the end for entries that are not wanted.

They are counted under its id.
"""

from __future__ import annotations

from collections.abc import Callable

from kofagent.operators.access import Access
from kofagent.operators.entry import Entry
from kofagent.operators.operator import AnyOperator, Operator, Run
from kofagent.operators.options import BasicConfig


class DropOutput(Operator[BasicConfig]):
    """Leaves out all entries."""

    def connect(self, find: Callable[[str], AnyOperator], following: AnyOperator | None) -> None:
        self.outputs = []

    def process(self, entry: Entry, run: Run) -> None:
        run.filtered(f"operator/{self.id}", 1)

    def access(self) -> Access | None:
        return Access.of(self.config)


OPERATOR = DropOutput
