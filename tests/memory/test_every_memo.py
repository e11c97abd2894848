"""All memos of the product, found in its source: each is filled past its bound by what really uses it, and stays within it."""

from __future__ import annotations

import ast
import gc
from typing import Any

import pytest

from kofagent.memory.account import ACCOUNT
from kofagent.memory.memo import Memo, measured
from tests import rooms
from tests.memory.drivers import DRIVERS

MOST = 100_000, 32 << 20
"""Entries and bytes that a memo may hold, but for these."""
LARGE = {
    "prometheusremotewrite.labelled": (200_000, 64 << 20),
    "prometheusremotewrite.series": (1_000_000, 256 << 20),
    "tail_sampling.sampled": (200_000, 64 << 20),
    "tail_sampling.not_sampled": (200_000, 64 << 20),
    "transform.returned": (200_000, 32 << 20),
}
"""What is remembered of every series, trace or point: less than that would mean working them all out with each batch, or deciding anew."""
LOWERED: dict[str, dict[str, Any]] = {
    "file.seen": {"kofagent.exporters.file.exporter.MAX_SEEN": 100},
    "filelog.excluded": {"kofagent.receivers.filelog.globs.MAX_EXCLUDED": 100},
    "prometheusremotewrite.labelled": {"kofagent.exporters.prometheusremotewrite.columns.MAX_LABELLED": (20_000, 6 << 20)},
    "prometheusremotewrite.series": {"kofagent.exporters.prometheusremotewrite.cache.MOST": 1000},
}
"""Constants that are lowered, where filling the memo would take long."""
PLENTY = 250_000
"""Uses after which a memo that drops nothing is one without a bound."""


def _names() -> dict[str, str]:
    """The names of memos, and of what joins the account as they do, in the source, with their places."""
    out: dict[str, str] = {}
    for path in rooms.files():
        text = path.read_text()
        if path.parent.name == "memory" or not ("Memo(" in text or "ACCOUNT.join(self)" in text):
            continue
        for node in ast.walk(rooms.tree_of(path)):
            name: ast.expr | None
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Memo":
                name = node.args[0] if node.args else None
            elif isinstance(node, ast.ClassDef) and "ACCOUNT.join(self)" in ast.unparse(node):
                name = next(n.value for n in node.body if isinstance(n, ast.Assign) and ast.unparse(n.targets[0]) == "name")
            else:
                continue
            place = f"{path.relative_to(rooms.ROOT)}:{node.lineno}"
            assert isinstance(name, ast.Constant) and isinstance(name.value, str), f"{place}: the name must be written there"
            assert name.value not in out, f"{place}: {name.value} is also the name of {out[name.value]}"
            out[name.value] = place
    return out


NAMES = _names()


def test_every_memo_has_a_driver() -> None:
    assert set(NAMES) == set(DRIVERS), "tests/memory/drivers.py says how each memo is filled"


@pytest.fixture(scope="module", autouse=True)
def _without_what_tests_before_left() -> None:
    gc.collect()  # once: it looks at all that the session has loaded


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(DRIVERS))
def test_a_memo_stays_within_its_bound(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    counts = ACCOUNT.counts(name)
    first = DRIVERS[name]()  # held, for the account holds nothing
    first(0)
    its = ACCOUNT.memos(name)
    assert its, "the driver fills another memo"
    for memo in its:
        entries, size = LARGE.get(name, MOST)
        assert 0 < memo.max_entries <= entries
        assert 0 < memo.max_size <= size
    for target, value in LOWERED.get(name, {}).items():
        monkeypatch.setattr(target, value)
    use = DRIVERS[name]()
    use(0)
    memos = [memo for memo in ACCOUNT.memos(name) if not any(memo is one for one in its)] or its
    evicted = counts.evictions
    for i in range(1, PLENTY):
        use(i)
        if i & 0xFF == 0 or counts.evictions > evicted:
            for memo in memos:
                assert memo.entries <= memo.max_entries
                assert memo.size <= memo.max_size
            if counts.evictions > evicted:
                break
    else:
        pytest.fail(f"{PLENTY} different uses, and nothing was dropped")
    fullest = max(memos, key=lambda memo: memo.entries)
    assert fullest.entries >= 1
    if isinstance(fullest, Memo):
        # what an entry is said to cost is no less than its key, its value and its place
        costs = [measured(key, None if key is value else value) for key, value in fullest.everything()]
        assert fullest.size >= 0.9 * sum(costs)
