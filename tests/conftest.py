"""Rules for every test: an exception nobody handled in the event loop fails the test it happened in."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest


@pytest.fixture(autouse=True)
def _no_unhandled_exceptions(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    problems: list[dict[str, Any]] = []

    def record(self: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        problems.append(context)

    monkeypatch.setattr(asyncio.BaseEventLoop, "call_exception_handler", record)
    yield
    assert not problems, f"unhandled in the event loop: {problems}"
