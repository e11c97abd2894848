"""A writer that acts while a poll looks at the disk: each step at a chosen call of the operating system."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest

_CALLS = ("stat", "fstat", "pread", "open", "scandir", "lseek", "read")

Plan = Sequence[tuple[int, Callable[[], object]]]
"""Steps in their order, each with the number of the call before which it is done."""


class Moments:
    """Counts the calls of a poll and does the steps of a plan between them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.calls = 0
        self._plan: list[tuple[int, Callable[[], object]]] = []
        self._on = False
        for name in _CALLS:
            monkeypatch.setattr(os, name, self._counted(getattr(os, name)))

    def _counted(self, call: Any) -> Any:
        def counted(*arguments: Any, **named: Any) -> Any:
            if self._on:
                self._step()
            return call(*arguments, **named)

        return counted

    def _step(self) -> None:
        self._on = False
        while self._plan and self._plan[0][0] <= self.calls:
            self._plan.pop(0)[1]()
        self.calls += 1
        self._on = True

    @contextmanager
    def during(self, plan: Plan) -> Iterator[None]:
        """Within, the steps are done at their calls; what is left is done at the end."""
        self.calls, self._plan, self._on = 0, list(plan), True
        try:
            yield
        finally:
            self._on = False
            for _, step in self._plan:
                step()
