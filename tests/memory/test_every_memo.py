"""All memos of the product, found in its source: each is filled past its bound by what really uses it, and stays within it."""

from __future__ import annotations

import ast

import pytest

from kofagent.memory.account import ACCOUNT
from kofagent.memory.memo import Memo, measured
from tests import rooms
from tests.memory.drivers import DRIVERS

MOST_ENTRIES, MOST_SIZE = 200_000, 32 << 20
"""No memo may hold more than this: with the largest ones full the agent stays within its limits of memory."""
PLENTY = 250_000
"""Uses after which a memo that drops nothing is one without a bound."""


def _names() -> dict[str, str]:
    """The names of memos in the source, with their places."""
    out: dict[str, str] = {}
    for path in rooms.files():
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Memo":
                place = f"{path.relative_to(rooms.ROOT)}:{node.lineno}"
                name = node.args[0] if node.args else None
                assert isinstance(name, ast.Constant) and isinstance(name.value, str), f"{place}: the name must be written there"
                assert name.value not in out, f"{place}: {name.value} is also the name of {out[name.value]}"
                out[name.value] = place
    return out


NAMES = _names()


def test_every_memo_has_a_driver() -> None:
    assert set(NAMES) == set(DRIVERS), "tests/memory/drivers.py says how each memo is filled"


@pytest.mark.parametrize("name", sorted(DRIVERS))
def test_a_memo_stays_within_its_bound(name: str) -> None:
    use = DRIVERS[name]()
    use(0)
    memos = [memo for memo in ACCOUNT.memos(name) if isinstance(memo, Memo)]
    assert memos, "the driver fills another memo"
    counts = memos[0].counts
    for memo in memos:
        assert 0 < memo.max_entries <= MOST_ENTRIES
        assert 0 < memo.max_size <= MOST_SIZE
    evicted = counts.evictions
    for i in range(1, PLENTY):
        use(i)
        if i & 0xFF == 0 or counts.evictions > evicted:
            for memo in ACCOUNT.memos(name):
                assert isinstance(memo, Memo)
                assert memo.entries <= memo.max_entries
                assert memo.size <= memo.max_size
            if counts.evictions > evicted:
                break
    else:
        pytest.fail(f"{PLENTY} different uses, and nothing was dropped")
    fullest = max(memos, key=lambda memo: memo.entries)
    assert fullest.entries >= 1
    # what an entry is said to cost is no less than its key, its value and its place
    assert fullest.size >= 0.9 * sum(measured(key, value) for key, value in fullest.everything())
