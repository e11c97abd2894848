"""The one account of memory, and what gives way first when memory is short."""

from __future__ import annotations

from kofagent.memory import usage
from kofagent.memory.account import RELIEF_SECONDS, Account
from kofagent.memory.budget import Budget


class Remembering:
    def __init__(self, name: str, size: int) -> None:
        self.name = name
        self.entries = self.max_entries = 1
        self.max_size = size
        self.size = size

    def shrink(self) -> int:
        gone, self.size = self.size // 2, self.size - self.size // 2
        return gone


def test_owners_and_limits() -> None:
    account = Account()
    memos = [Remembering("b", 20), Remembering("a", 100), Remembering("a", 3)]
    for memo in memos:
        account.join(memo)
    budget = Budget("in_flight", 1000)
    account.join_budget(budget)
    assert budget.reserve(600) and not budget.reserve(600)
    owners = account.owners()
    assert (owners["memos"], owners["in_flight"]) == (123, 600)
    assert owners["process"] > 5e6
    assert account.limits()["in_flight"] == 1000
    assert account.limits()["process"] == usage.machine_total()
    assert list(account.figures()) == ["a", "b"]
    assert account.figures()["a"][:2] == (2, 103)
    budget.release(600)
    assert account.owners()["in_flight"] == 0


def test_a_reservation_larger_than_the_budget_may_pass_alone() -> None:
    budget = Budget("test", 10)
    assert budget.reserve(50)
    assert not budget.reserve(1)
    budget.release(50)
    assert budget.reserve(1) and not budget.reserve(50)


def test_all_memos_shrink_at_once_and_not_again_at_once() -> None:
    now = 100.0
    account = Account(lambda: now)
    memos = [Remembering("a", 100), Remembering("b", 20)]
    for memo in memos:
        account.join(memo)
    assert account.relieve() == 60
    assert account.relieve() == 0, "several memory limiters ask in the same second"
    now += RELIEF_SECONDS
    assert account.relieve() == 30
    assert account.owners()["memos"] == 30


def test_memory_is_given_back_to_the_system() -> None:
    before = usage.process_rss()
    blocks = [b"x" * 3000 for _ in range(20_000)]
    kept = blocks[::1000]
    del blocks
    usage.give_back()
    assert usage.process_rss() - before < 40 << 20
    assert kept
