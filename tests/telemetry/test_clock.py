"""The clock of metrics never goes back."""

from __future__ import annotations

import itertools
import logging
import re
from pathlib import Path

import pytest

import kofagent
from kofagent.telemetry.clock import ForwardClock

S = 1_000_000_000


def test_a_clock_that_is_set_back_and_catches_up(caplog: pytest.LogCaptureFixture) -> None:
    wall, ticks = [10_000 * S], [0]

    def after(seconds: int) -> int:
        wall[0] += seconds * S
        ticks[0] += seconds * S
        return clock.now_ns()

    clock = ForwardClock(lambda: wall[0], lambda: ticks[0])
    assert [after(1), after(1)] == [10_001 * S, 10_002 * S]
    wall[0] += 3600 * S
    assert after(1) == 13_603 * S  # a step forward is followed
    with caplog.at_level(logging.WARNING):
        wall[0] -= 3600 * S
        held = [after(1) for _ in range(1000)]
    # Later by at least a millisecond each, which is what remote write can tell apart.
    assert held[0] > 13_603 * S
    assert all(1_000_000 <= two - one < 2_000_000 for one, two in itertools.pairwise(held))
    assert [record.getMessage() for record in caplog.records] == [
        "the clock was set back by 3599 s: until it has caught up, samples carry times just after the last one"
    ]
    wall[0] += 2600 * S
    assert after(2) == wall[0]  # caught up: the machine's clock again
    wall[0] -= 1_000_000
    assert wall[0] < clock.now_ns() < wall[0] + S


def test_two_looks_in_one_moment_are_not_apart() -> None:
    clock = ForwardClock(lambda: 5, lambda: 5)
    assert clock.now_ns() == clock.now_ns() == 5


NOT_OF_POINTS = {
    "prometheus/scrape.py": "when the first scrape is due; lines of a debug file",
    "prometheus/target.py": "when the next scrape is due",
    "receivers/filelog/find.py": "ages of files",
    "receivers/filelog/globs.py": "ages of directories",
    "receivers/filelog/receiver.py": "observed times of log records",
    "receivers/filelog/tracker.py": "ages of files",
    "receivers/hostmetrics/scrapers/process.py": "ages of processes",
    "receivers/hostmetrics/scrapers/process_psutil.py": "ages of processes",
    "receivers/hostmetrics/scrapers/system.py": "uptime",
    "receivers/journald/receiver.py": "where the journal begins, waiting times",
    "receivers/journald/records.py": "observed times of log records",
    "receivers/k8s_cluster/entity_log.py": "times of log records",
    "receivers/k8s_events/receiver.py": "times of log records",
    "receivers/k8sobjects/receiver.py": "times of log records",
    "receivers/receiver_creator/receiver.py": "ages of files",
}
"""Files that may read the machine's clock, and for what."""


def test_points_get_their_times_from_the_clock_that_never_goes_back() -> None:
    root = Path(kofagent.__file__).parent
    found = {
        str(path.relative_to(root))
        for room in ("pipeline", "prometheus", "receivers", "connectors", "processors", "transform")
        for path in (root / room).rglob("*.py")
        if re.search(r"\btime\.time(_ns)?\(", path.read_text())
    }
    assert found == NOT_OF_POINTS.keys()
