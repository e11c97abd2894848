"""How short memory is, and what does not begin then."""

from __future__ import annotations

import pytest

from kofagent.memory.account import ACCOUNT
from kofagent.memory.pressure import ACCURATE, CEILING, SHARES, Level, Pressure

MIB = 1 << 20


@pytest.fixture(autouse=True)
def _nothing_is_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    """Memos of the process have nothing to give."""
    monkeypatch.setattr(ACCOUNT, "relieve", lambda: 0)
    monkeypatch.setattr(Pressure, "give_back", lambda self: False)


class Kernel:
    """What is in use, and the time."""

    def __init__(self, used: float = 0.0) -> None:
        self.used = int(used * MIB)
        self.now = 100.0
        self.looked = 0

    def measure(self) -> int:
        self.looked += 1
        return self.used


def pressure(kernel: Kernel, limit: int = 100 * MIB) -> Pressure:
    out = Pressure(kernel.measure, lambda: kernel.used, lambda: kernel.now)
    out.set(limit)
    return out


def test_levels_begin_at_their_share_in_order_and_end_a_little_below() -> None:
    kernel = Kernel()
    it = pressure(kernel)
    assert it.level is Level.CALM
    seen = []
    for percent in [*range(60, 96), *range(95, 60, -1)]:
        kernel.used = percent * MIB
        seen.append((percent, it.look()))
    up, down = seen[:36], seen[36:]
    assert [next(p for p, level in up if level >= wanted) for wanted in SHARES] == [70, 75, 80, 85, 90]
    assert list(SHARES) == sorted(SHARES) == list(Level)[1:]
    assert [next(p for p, level in down if level < wanted) for wanted in reversed(SHARES)] == [86, 81, 76, 71, 66]


def test_without_a_limit_everything_fits_and_nothing_is_measured() -> None:
    kernel = Kernel(1 << 30)
    it = pressure(kernel, 0)
    with it.claim("test.all") as claim:
        assert claim.grow(1 << 50, 1 << 50)
        assert it.look() is Level.CALM
        assert ACCOUNT.owners()["test.all"] == 1 << 51
    assert ACCOUNT.owners()["test.all"] == 0
    assert kernel.looked == 0


def test_claims_end_at_the_ceiling_and_are_counted_by_owner() -> None:
    kernel = Kernel(50)
    it = pressure(kernel)
    first, second = it.claim("test.a"), it.claim("test.b")
    room = int(100 * MIB * CEILING) - 50 * MIB
    assert first.grow(room // 2) and not second.grow(room)
    assert second.grow(room - room // 2) and not first.grow(1)
    assert it.refusals() == {"test.a": 1, "test.b": 1}
    assert first.size == room // 2, "what did not fit is not held"


def test_what_is_taken_counts_until_it_is_measured() -> None:
    kernel = Kernel(50)
    it = pressure(kernel)
    claim = it.claim("test.c")
    assert claim.grow(40 * MIB)
    assert it.used == 90 * MIB and not claim.grow(10 * MIB)
    kernel.now += ACCURATE
    assert claim.grow(10 * MIB), "it was let go again before it was measured"
    claim.close()
    assert it.used == 60 * MIB, "that it is free will be measured"


def test_what_will_be_needed_counts_until_the_claim_ends() -> None:
    kernel = Kernel(20)
    it = pressure(kernel)
    first, second = it.claim("test.d"), it.claim("test.d")
    assert first.grow(10 * MIB, ahead=40 * MIB)
    kernel.used += 10 * MIB
    kernel.now += ACCURATE
    assert not second.grow(10 * MIB, ahead=40 * MIB)
    first.close()
    kernel.used -= 10 * MIB
    kernel.now += ACCURATE
    assert second.grow(10 * MIB, ahead=40 * MIB)
    second.close()
    assert it.fits(int(100 * MIB * CEILING) - 30 * MIB), "nothing stays promised"


def test_small_claims_are_not_measured_each() -> None:
    kernel = Kernel(20)
    it = pressure(kernel)
    before = kernel.looked
    with it.claim("test.e") as claim:
        assert all(claim.grow(1000) for _ in range(1000))
    assert kernel.looked == before


def test_memos_shrink_before_a_claim_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    kernel = Kernel(90)
    it = pressure(kernel)

    def relieve() -> int:
        kernel.used -= 30 * MIB
        return 30 * MIB

    monkeypatch.setattr(ACCOUNT, "relieve", relieve)
    kernel.now += ACCURATE
    assert it.claim("test.f").grow(20 * MIB)
