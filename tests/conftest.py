"""Rules for every test: an exception nobody handled in the event loop fails the test it happened in; absent servers are named."""

from __future__ import annotations

import asyncio
import gc
import os
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

from kofagent.telemetry import reasons
from tests.support import servers

# A busy machine is slow, not wrong: no example of a property has a time limit.
settings.register_profile("ci", deadline=None)
settings.register_profile("dev", deadline=None, max_examples=8)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))

# The agents that tests start read bytecode, as an installed one does: compiling it is most of what such a start takes.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
# Agents that tests start keep nothing on this machine's disk unless the test says where.
os.environ["KOFAGENT_STATE"] = "none"
sys.dont_write_bytecode = False

_absent: Counter[str] = Counter()
SHARED = Path(__file__).parents[2] / "shared" / "kof"
"""KOF's values and what its charts make of them, next to the clone: not part of this repository."""


def _of_a_loop_before(context: dict[str, Any]) -> bool:
    """gRPC has one poller for all event loops: what it still has for the loop of an earlier test, now closed, is nobody's fault."""
    return "PollerCompletionQueue" in str(context.get("message")) and str(context.get("exception")) == "Event loop is closed"


@pytest.fixture(autouse=True)
def _no_unhandled_exceptions(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    problems: list[dict[str, Any]] = []

    def record(self: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        if not _of_a_loop_before(context):
            problems.append(context)

    monkeypatch.setattr(asyncio.BaseEventLoop, "call_exception_handler", record)
    yield
    assert not problems, f"unhandled in the event loop: {problems}"


@pytest.fixture(autouse=True)
def _only_known_reasons(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What is only logged once in production fails a test: data refused or dropped for a reason that is not in the list."""
    found: list[str] = []
    monkeypatch.setattr(reasons, "unlisted", found.append)
    yield
    assert not found, f"not in kofagent.telemetry.reasons: {found}"


CLUSTER_FOLDER = "tests/e2e_cluster/"
CLUSTER_PROGRAMS = {"kubelet", "kwok"}
CLUSTER = "KOFAGENT_CLUSTER"
"""Tests that start a whole cluster change the machine (mounts, links, cgroups) for some minutes: they run when asked for."""


SLOW_FOLDERS = ("tests/e2e/", CLUSTER_FOLDER)
"""Whole agents between whole servers."""

MARKED = ("starts a whole cluster", "no server: ")
"""Beginnings of the reasons that are counted by server in the summary."""


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    found: dict[str, str | None] = {}
    for item in items:
        if item.nodeid.startswith(SLOW_FOLDERS):
            item.add_marker(pytest.mark.slow)
        asked = {marker.args[0] for marker in item.iter_markers("server")}
        if (item.nodeid.startswith(CLUSTER_FOLDER) or asked & CLUSTER_PROGRAMS) and not os.environ.get(CLUSTER):
            _absent[f"a whole Kubernetes cluster (set {CLUSTER}=1)"] += 1
            item.add_marker(pytest.mark.skip(reason=f"starts a whole cluster: set {CLUSTER}=1"))
            continue
        for name in sorted(asked):
            if name not in found:
                found[name] = servers.find(name)
            if found[name] is None:
                _absent[name] += 1
                item.add_marker(pytest.mark.skip(reason=f"no server: {name}, run tests/servers/install.sh"))


def pytest_collection_finish() -> None:
    gc.freeze()  # what is loaded by now stays, so the collector need not look at all of it again and again
    gc.set_threshold(20_000, 20, 20)  # tests leave little behind; as often as by default costs a tenth of their time


def _reason(skipped: Any) -> str:
    text = skipped.longrepr[2] if isinstance(skipped.longrepr, tuple) else str(skipped.longrepr)
    return str(text).removeprefix("Skipped: ")


def pytest_terminal_summary(terminalreporter: Any) -> None:
    report = terminalreporter
    if _absent:
        report.write_sep("-", "real servers that were not found")
        for name, count in sorted(_absent.items()):
            report.write_line(f"{name}: {count} tests not run")
        report.write_line("tests/servers/install.sh installs them")
    else:
        report.write_line("real servers: all that the selected tests ask for were found")
    others = Counter(_reason(skipped) for skipped in report.stats.get("skipped", []))
    for reason, count in sorted(others.items()):
        if not reason.startswith(MARKED):
            report.write_line(f"not run, {count} tests: {reason}")
    if not SHARED.exists():
        report.write_line(f"comparisons with KOF's values and what its charts render were not run: {SHARED} is not there")
