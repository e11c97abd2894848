"""Systems without /proc: the same scrapers through psutil, which works on this machine as well."""

from __future__ import annotations

import importlib
import os

import pytest

from kofagent.receivers.hostmetrics import receiver as receiver_module
from kofagent.receivers.hostmetrics.catalog import CATALOG
from tests.receivers.hostmetrics.support import all_on, attributes_of, decoded, points, receiver


@pytest.fixture(autouse=True)
def _no_proc(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(receiver_module, "LINUX", False)
    for name in CATALOG:
        module = importlib.import_module(f"kofagent.receivers.hostmetrics.scrapers.{name}")
        if hasattr(module, "LINUX"):
            monkeypatch.setattr(module, "LINUX", False)


@pytest.mark.parametrize(
    ("scraper", "least"),
    [
        ("cpu", {"system.cpu.time", "system.cpu.logical.count"}),
        ("load", {"system.cpu.load_average.1m"}),
        ("memory", {"system.memory.usage", "system.memory.utilization", "system.memory.limit"}),
        ("network", {"system.network.io", "system.network.connections"}),
        ("processes", {"system.processes.count"}),
        ("system", {"system.uptime"}),
        ("filesystem", set()),
        ("disk", set()),
        ("paging", set()),
    ],
)
def test_scrapers(scraper: str, least: set[str]) -> None:
    made = receiver("", {scraper: all_on(scraper)})
    batch = made.collect()
    got = points(batch.payload) if batch else {}
    assert least <= set(got) <= set(CATALOG[scraper])
    labels = {"receiver": "hostmetrics", "scraper": scraper}
    assert made.context.ledger.total("otelcol_scraper_errored_metric_points_total", **labels) == 0


def test_processes_one_by_one() -> None:
    made = receiver("", {"process": all_on("process")})
    made.collect()
    entries = decoded(made.collect().payload).resource_metrics
    (own,) = [e for e in entries if attributes_of(e.resource.attributes)["process.pid"] == os.getpid()]
    assert attributes_of(own.resource.attributes)["process.parent_pid"] == os.getppid()
    names = {m.name for m in own.scope_metrics[0].metrics}
    assert {"process.cpu.time", "process.cpu.utilization", "process.memory.usage", "process.threads", "process.uptime"} <= names
