"""`Memo` against a model of two plain dicts, and what its users rely on."""

from __future__ import annotations

import gc
from collections.abc import Callable

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from kofagent.memory.account import ACCOUNT
from kofagent.memory.memo import SLOT, Memo, measured, sizeof

ENTRIES, SIZE, LONGEST = 8, 100, 30
Key = tuple[str, int]
"""The second is what the entry costs."""
_keys = st.tuples(st.sampled_from("abcdefghijkl"), st.integers(1, 40))
_steps = st.lists(st.tuples(st.sampled_from(("ask", "find", "put", "forget", "rotate", "shrink", "clear")), _keys), max_size=60)


class Model:
    """The same promises in the plainest way: two dicts, every sum made anew."""

    def __init__(self) -> None:
        self.young: dict[Key, str] = {}
        self.old: dict[Key, str] = {}
        self.misses = self.evictions = 0

    def keep(self, key: Key, value: str) -> None:
        self.young.pop(key, None)
        self.old.pop(key, None)
        if key[1] > LONGEST:
            return
        if 2 * (len(self.young) + 1) > ENTRIES or 2 * (sum(cost for _, cost in self.young) + key[1]) > SIZE:
            self.rotate()
        self.young[key] = value

    def find(self, key: Key) -> str | None:
        if key in self.young:
            return self.young[key]
        if key in self.old:
            value = self.old[key]
            self.keep(key, value)
            return value
        self.misses += 1
        return None

    def ask(self, key: Key) -> str:
        value = self.find(key)
        if value is None:
            value = _answer(key)
            self.keep(key, value)
        return value

    def put(self, key: Key) -> None:
        self.keep(key, "put")

    def forget(self, key: Key) -> str | None:
        young = self.young.pop(key, None)
        return young if young is not None else self.old.pop(key, None)

    def rotate(self) -> None:
        self.evictions += len(self.old)
        self.young, self.old = {}, self.young

    def shrink(self) -> int:
        if self.old:
            gone, self.old = self.old, {}
        else:
            gone, self.young = self.young, {}
        self.evictions += len(gone)
        return sum(cost for _, cost in gone)

    def clear(self) -> None:
        self.young, self.old = {}, {}


def _answer(key: Key) -> str:
    return f"answer to {key}"


def _memo(name: str = "test.memo", make: Callable[[Key], str] | None = _answer) -> Memo[Key, str]:
    return Memo(name, make, entries=ENTRIES, size=SIZE, cost=lambda key, value: key[1], longest=LONGEST)


@example([("ask", ("a", LONGEST)), ("ask", ("b", LONGEST + 1))])
@example([("ask", ("a", 3)), ("rotate", ("", 0)), ("ask", ("b", 2)), ("shrink", ("", 0)), ("shrink", ("", 0))])
@given(_steps)
def test_a_memo_does_what_the_model_does(steps: list[tuple[str, Key]]) -> None:
    memo, model = _memo(), Model()
    before = memo.counts.misses, memo.counts.evictions
    for step, key in steps:
        if step == "ask":
            assert memo[key] == model.ask(key)
        elif step == "find":
            assert memo.find(key) == model.find(key)
        elif step == "put":
            memo[key] = "put"
            model.put(key)
        elif step == "forget":
            assert memo.forget(key) == model.forget(key)
        elif step == "shrink":
            assert memo.shrink() == model.shrink()
        else:
            getattr(memo, step)()
            getattr(model, step)()
        assert (dict(memo), dict(memo.everything())) == (model.young, {**model.old, **model.young})
        assert memo.entries == len(model.young) + len(model.old) <= ENTRIES
        assert memo.size == sum(cost for _, cost in [*model.young, *model.old]) <= SIZE
        assert (memo.counts.misses - before[0], memo.counts.evictions - before[1]) == (model.misses, model.evictions)


def test_what_is_asked_for_again_stays_and_what_is_not_goes() -> None:
    made: list[int] = []

    def make(key: int) -> int:
        made.append(key)
        return key + 1

    memo = Memo("test.stays", make, entries=20, size=1 << 20)
    for key in range(1000):
        assert memo[key] == key + 1
        assert memo[0] == 1
    assert made.count(0) == 1 and len(made) == 1000
    assert memo.entries <= 20
    del made[:]
    assert memo[1] == 2
    assert made == [1]


def test_a_working_set_of_half_the_bound_is_always_remembered() -> None:
    made: list[int] = []
    memo = Memo("test.set", lambda key: made.append(key) or key, entries=20, size=1 << 20)  # type: ignore[func-returns-value]
    for _ in range(10):
        for key in range(10):
            assert memo[key] == key
    assert made == list(range(10))


def test_without_a_function_a_key_that_is_not_there_is_an_error() -> None:
    with pytest.raises(KeyError):
        _memo(make=None)["a", 1]


def test_one_that_raises_leaves_nothing() -> None:
    def make(key: str) -> str:
        raise ValueError(key)

    memo = Memo("test.raises", make, entries=10, size=1000)
    for _ in range(2):
        with pytest.raises(ValueError):
            memo["a"]
    assert memo.entries == memo.size == 0


def test_an_entry_costs_key_value_and_place() -> None:
    assert sizeof((b"a" * 100, ["b" * 100])) > 200
    assert sizeof({"a": ("b" * 1000,)}) > 1000
    assert measured(b"a" * 100, "b" * 100) == SLOT + sizeof(b"a" * 100) + sizeof("b" * 100)
    memo: Memo[int, bytes] = Memo("test.cost", entries=1000, size=1 << 20)
    for i in range(100):
        memo[i] = b"x" * 1000
    assert 100_000 < memo.size < 120_000


def test_memos_of_one_name_are_one_line_of_the_account_and_leave_it_when_they_go() -> None:
    a, b = _memo("test.shared"), _memo("test.shared")
    a["a", 1], b["b", 2], b["b", 2]
    b.counts.lookups += 3
    figures = ACCOUNT.figures()["test.shared"]
    assert (figures.entries, figures.size, figures.counts.hits, figures.counts.misses) == (2, 3, 1, 2)
    del b
    gc.collect()
    figures = ACCOUNT.figures()["test.shared"]
    assert (figures.entries, figures.size, figures.counts.hits, figures.counts.misses) == (1, 1, 1, 2)
    assert ACCOUNT.memos("test.shared") == [a]


def test_what_is_found_or_written_in_the_old_generation_is_in_the_young_one_afterwards() -> None:
    memo = _memo("test.old", None)
    memo.rotate()
    memo["a", 1] = "first"
    memo["b", 1] = "second"
    memo.rotate()
    assert dict(memo) == {} and memo.find(("a", 1)) == "first"
    assert dict(memo) == {("a", 1): "first"}, "it was found, so it stays"
    memo["b", 1] = "third"
    assert (memo.entries, memo.size, memo.find(("b", 1))) == (2, 2, "third"), "the old answer is gone"
    memo.rotate()
    assert sorted(memo.everything()) == [(("a", 1), "first"), (("b", 1), "third")]
