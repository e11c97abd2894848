"""The cheap scenarios of the fault suite in their short form; `python -m tests.faults` has all of them, and the full form."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.faults.__main__ import run
from tests.faults.scenarios import SCENARIOS

CHEAP = ("kill", "reload", "statuses", "grpc", "disk-full", "rotation", "clock")


@pytest.mark.slow
@pytest.mark.parametrize("name", CHEAP)
async def test_nothing_is_lost(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    result = await run(name, tmp_path / "1", short=True)
    if result.failures and (os.getloadavg()[0] > (os.cpu_count() or 1)):
        with capsys.disabled():
            print(f"\nonce more, the machine was busy:\n{result}")
        result = await run(name, tmp_path / "2", short=True)
    with capsys.disabled():
        for what in result.untested:
            print(f"\nnot tested: {name}: {what}")
    assert not result.failures, f"\n{result}"


def test_what_is_cheap_is_a_scenario() -> None:
    assert set(CHEAP) <= SCENARIOS.keys()
