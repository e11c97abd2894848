"""What is added to scraped samples, and how long it is remembered."""

from __future__ import annotations

import gc
from collections.abc import Callable

import pytest

from kofagent.exporters.prometheusremotewrite import columns
from kofagent.exporters.prometheusremotewrite.cache import ROTATE_SECONDS
from kofagent.exporters.prometheusremotewrite.columns import Targets
from kofagent.memory.account import ACCOUNT
from kofagent.telemetry.batch import Samples
from kofagent.telemetry.series import Series

SERIES = Series((("__name__", "a"), ("job", "j")))


@pytest.mark.parametrize("copy", [None, lambda name: True])
def test_labelled_series_and_targets_are_forgotten_after_two_generations(copy: Callable[[str], bool] | None) -> None:
    clock = [0.0]
    targets = Targets({"c": "1"}, copy, True, "", lambda: clock[0])
    group = Samples([SERIES], [1.0], 0, resource={"service.name": "s", "k": "v"})
    (first,) = targets.label_bytes(group)
    names = ("prometheusremotewrite.labelled", "prometheusremotewrite.targets")

    def entries() -> list[int]:
        gc.collect()
        return [ACCOUNT.figures()[name].entries for name in names]

    before = entries()
    for asked in (True, False, False):
        clock[0] += ROTATE_SECONDS + 1
        targets.rotate()
        if asked:
            assert targets.label_bytes(group)[0] is first
            assert entries() == before
    assert entries() == [n - 1 for n in before]


def test_the_series_of_all_targets_have_one_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(columns, "MAX_LABELLED", (2000, 1 << 30))
    monkeypatch.setattr(columns, "LOOK_EVERY", 10)
    targets = Targets({}, lambda name: True, False, "")
    for i in range(100):
        group = Samples([Series((("__name__", f"s{j}"),)) for j in range(50)], [1.0] * 50, 0, resource={"k": str(i)})
        targets.rotate()
        targets.label_bytes(group)
        assert sum(labelled.entries for labelled in targets._all()) <= 2000 + 2 * 50, "a batch more in each generation"
