"""Large pages: limits hold before the memory is spent, and what is spent is known beforehand."""

from __future__ import annotations

import asyncio
import gc
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import pytest

from kofagent.component.turns import in_turns
from kofagent.memory.account import ACCOUNT
from kofagent.memory.pressure import PRESSURE, Level
from kofagent.prometheus import parts
from kofagent.prometheus.config import ScrapeConfig
from kofagent.prometheus.page import FREE, STEP, NoRoom, PageReader, SampleLimitError
from kofagent.prometheus.room import PageRoom, Turns, default_body_limit
from kofagent.prometheus.target import finisher, sample_rules
from kofagent.prometheus.text import ParseError, Sample, SeriesError, scan, scan_line
from tests.support.memory import MIB, memory

LINES = 3000
KIB = 1 << 10


@pytest.fixture(autouse=True)
def _large_is_small(monkeypatch: pytest.MonkeyPatch) -> None:
    """A tenth of everything: tracing is slow."""
    for name, value in (("SMALL", 26 * KIB), ("LARGE", 200 * KIB), ("MANY", 2000), ("PART", 26 * KIB)):
        monkeypatch.setattr(parts, name, value)


def reader(fits: Callable[[int], bool] = lambda size: True, **limits: int) -> PageReader:
    job = ScrapeConfig.model_validate({"job_name": "j", **limits})
    finish = finisher(job, sample_rules(job), {"job": "j", "instance": "127.0.0.1:9"}, {})
    return PageReader(finish, sample_limit=job.sample_limit, fits=fits)


def page(lines: int = LINES, first: int = 0) -> bytes:
    text = 'http_requests_total{method="GET",code="200",path="/api/v1/item/%d",zone="eu-%d"} %d\n'
    return "".join([text % (first + i, i % 3, i) for i in range(lines)]).encode()


@contextmanager
def traced() -> Iterator[SimpleNamespace]:
    """Bytes of Python objects: the most inside of the block, and those kept behind it."""
    said = SimpleNamespace(most=0, kept=0)
    gc.collect()
    tracemalloc.start()
    try:
        yield said
        said.kept, said.most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()


@pytest.mark.slow
def test_what_a_page_costs_is_known_before_and_held_in_the_account() -> None:
    body, asked = page(), []
    it = reader(lambda size: asked.append(size) is None)
    held = ACCOUNT.owners()["page_caches"]
    with traced() as said:
        scraped = it.read(body, False, 0)
    assert scraped.kept == LINES
    assert 0.85 * asked[0] < said.most < 1.15 * asked[0], "the estimate follows what is spent"
    assert ACCOUNT.owners()["page_caches"] - held == pytest.approx(said.kept, rel=0.25)
    values = scraped.values
    del scraped
    with traced() as said:
        again = it.read(body, False, 0)
    assert again.values == values
    assert said.most < 8 * parts.PART + parts.LINE_BYTES * LINES, "a page that is known costs its columns and a part"
    assert asked[1] < asked[0] / 5


BROKEN = b'split{a="\n"} 1\n'
"""Only the complete tokenizer knows labels that span lines."""
PAGES: dict[str, tuple[bytes, Any]] = {
    "small, all new": (page(900), {}),
    "large, all new": (page(LINES), {}),
    "large, known in part": (page(LINES, first=LINES // 2), {}),
    "large, with labels over lines": (page(LINES) + BROKEN, {}),
    "small, with labels over lines": (page(900) + BROKEN, {}),
    "large, wrong at its end": (page(LINES) + b"{\n", {}),
    "large, beyond the sample limit": (page(LINES), {"sample_limit": 100}),
    "comments": (b"".join([b"# HELP a%d text\n" % i for i in range(LINES)]) + page(10), {}),
}


@pytest.mark.parametrize("name", PAGES)
def test_reading_can_be_interrupted_after_some_new_lines(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A step works on STEP lines that are not known, of one pass and the next, whatever the page is."""
    body, limits = PAGES[name]
    it, worked = reader(**limits), 0
    it.read(page(LINES // 2), False, 0) if "known" in name else None

    def counting(of: Callable[..., Any]) -> Callable[..., Any]:
        def one(*arguments: Any) -> Any:
            nonlocal worked
            worked += 1
            return of(*arguments)

        return one

    def counted(*arguments: Any) -> Iterator[Any]:
        return map(counting(lambda item: item), scan(*arguments))

    monkeypatch.setattr("kofagent.prometheus.page.scan_line", counting(scan_line))
    monkeypatch.setattr("kofagent.prometheus.page.scan", counted)
    steps = []
    try:
        for _ in it.reading(body, False, 0):
            steps.append(worked)
            worked = 0
    except ValueError:
        assert "wrong" in name or "limit" in name
    else:
        assert "wrong" not in name and "limit" not in name
    steps.append(worked)
    assert sum(steps) >= 900 and max(steps) < 2 * STEP, steps


async def test_others_have_their_turn_while_a_page_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kofagent.component.turns.HOLD_SECONDS", 0.0)
    turns, order = Turns(), []

    async def other() -> None:
        while len(order) < 2:
            order.append("other") if order and order[-1] == "begun" else None
            await asyncio.sleep(0)

    async def read(name: str) -> None:
        async with turns.reading():
            order.append("begun")
            scraped = await in_turns(reader().reading(page(), False, 0))
            assert scraped.kept == LINES
            order.append(name)

    await asyncio.gather(read("first"), read("second"), other())
    assert order == ["begun", "other", "first", "begun", "second"], "others in between, and one page after the other"


@pytest.mark.parametrize("lines", [1900, LINES])
def test_a_page_whose_series_are_all_new_asks_for_them_and_the_next_one_has_their_room(lines: int) -> None:
    """Lines are as many as before, and each of them is new: both generations are in memory while the page is read."""
    room = 10 * MIB
    asked: list[int] = []

    def fits(size: int) -> bool:
        asked.append(size)
        return size < room

    it = reader(fits)
    it.read(page(lines), False, 0)
    asked.clear()
    assert it.read(page(lines), False, 0).added == 0
    assert sum(asked) < lines * 100, "what is known is not asked for again"
    it.read(page(lines, first=lines), False, 0)
    assert sum(asked) > (lines - FREE) * parts.new_bytes(60)
    room = 10 * KIB * (lines // 2000) * 30  # for the columns of a large page, and no more
    with pytest.raises(NoRoom, match="beside those that they replace"):
        it.read(page(lines, first=2 * lines), False, 0)
    markers = it.fail()
    assert len(markers) == lines
    known = it.known
    del markers
    gc.collect()
    assert (known, it.known >= lines / 2) == (0, True), "their room is there when nobody has the series any more"
    room = 10 * MIB
    assert it.read(page(lines, first=2 * lines), False, 0).added == lines


@pytest.mark.slow
def test_a_page_that_does_not_fit_costs_nothing_and_changes_nothing() -> None:
    it = reader(lambda size: size < MIB // 10)
    assert it.read(b"a 1\n", False, 0).kept == 1
    for body in (page(), b"a 1\n" * 20_000, b"\n" * 100_000, b"# HELP a b\n" * 10_000):
        with traced() as said, pytest.raises(NoRoom):
            it.read(body, False, 0)
        assert said.most < 20_000
        assert it.known == 1


def test_the_sample_limit_holds_before_the_series_are_made() -> None:
    it = reader(sample_limit=100)
    body = page()
    with traced() as said, pytest.raises(SampleLimitError) as error:
        it.read(body, False, 0)
    assert (error.value.total, error.value.kept) == (LINES, LINES)
    part = parts.PART * LINES // len(body)
    assert it.known <= 100 + 2 * part, "nothing of what is beyond the limit is kept"
    assert said.most < parts.cost(len(body), LINES, 0, 100) < 0.5 * parts.cost(len(body), LINES, 0)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("limit", "says"),
    [
        ({"label_limit": 5}, "label_limit exceeded"),
        ({"label_name_length_limit": 7}, "label_name_length_limit exceeded"),
        ({"label_value_length_limit": 12}, "label_value_length_limit exceeded"),
    ],
)
def test_a_label_limit_ends_the_page_at_the_first_series_beyond_it(limit: dict[str, int], says: str) -> None:
    it, body = reader(lambda size: True, **limit), page()
    with traced() as said, pytest.raises(SeriesError, match=says):
        it.read(body, False, 0)
    assert it.known < parts.PART // 50 and said.most < MIB // 4


@pytest.mark.parametrize("form", ["text", "text, quoted", "openmetrics"])
def test_wide_lines_are_read_one_at_a_time(form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """With as many labels as a series can have, in every way that a page is read: by its lines, and by the whole tokenizer."""
    labels = ",".join(
        f'{"" if n or "quoted" not in form else chr(34)}l{n}{"" if n or "quoted" not in form else chr(34)}="v"' for n in range(4000)
    )
    body = "".join(f'a{{{labels},n="{n}"}} 1\n' for n in range(10)).encode() + (b"# EOF\n" if form == "openmetrics" else b"")
    it, made = reader(), 0

    def counted(pairs: Any, of: Any = it._finish) -> Any:
        nonlocal made
        made += 1
        return of(pairs)

    monkeypatch.setattr(it, "_finish", counted)
    steps = []
    for _ in it.reading(body, form == "openmetrics", 0):
        steps.append(made)
        made = 0
    assert sum(steps) + made == 10 and max(*steps, made) == 1


@pytest.mark.parametrize("openmetrics", [False, True])
@pytest.mark.parametrize("line", ["a{%s} 1", 'a{%s,"q"="1"} 1', 'a{b="1"} 1 # {%s} 1'])
def test_a_label_bomb_is_refused_at_its_first_label_too_many(openmetrics: bool, line: str) -> None:
    if "#" in line and not openmetrics:
        return
    one = "".join([line % ",".join(f'l{n}="v"' for n in range(4096)), "\n"]).encode()
    items = list(scan(one + b"# EOF\n" if openmetrics else one, openmetrics)) if "q" not in line else []
    assert all(isinstance(item, Sample) for item in items)
    bomb = "".join([line % ",".join(f'l{n}="v"' for n in range(100_000)), "\n"]).encode()
    it = reader()
    with traced() as said, pytest.raises(ParseError, match="line 1: more than 4096 labels in "):
        it.read(bomb + b"# EOF\n" if openmetrics else bomb, openmetrics, 0)
    assert said.most < 8 * len(bomb), "nothing is made of the labels behind"
    assert it.known == 0


def test_churn_levels_off() -> None:
    """Each page has a tenth of new series: what is remembered is the last page's."""
    it = reader()
    steady = page(2200)
    held = []
    for turn in range(8):
        it.read(steady + page(220, first=10**6 * (turn + 1)), False, 0)
        held.append(it.used)
    assert it.known == 2420
    assert max(held) < 1.01 * min(held)


def test_room_is_asked_for_while_a_page_arrives() -> None:
    """10 MiB of short lines, which is 10 KB of gzip: refused when a few hundred KiB have come."""
    piece = b"a 1\n" * (16 << 10)
    with memory(128, 45), PRESSURE.claim("pages") as claim:
        room = PageRoom(claim, 0, 0)
        taken = 0
        while room(piece):
            taken += 1
        assert 0 < taken < 40
        assert room.need > 60 * MIB
    with memory(128, 45), PRESSURE.claim("pages") as claim:
        room = PageRoom(claim, LINES, 0)
        body = page()
        assert all(room(body[at : at + 65536]) for at in range(0, len(body), 65536)), "a page that is known fits"
        assert room.need < 4 * len(body)


def test_small_pages_are_not_counted() -> None:
    with memory(128, 127), PRESSURE.claim("pages") as claim:
        room = PageRoom(claim, 0, 0)
        assert all(room(b"a 1\n" * 1000) for _ in range(6))
        assert (room.need, claim.size, claim.ahead) == (0, 0, 0)


def test_the_default_page_follows_the_memory() -> None:
    assert default_body_limit() == 64 * MIB, "without a limit"
    for limit, body in ((16, 4), (128, 16), (256, 32), (4096, 64)):
        with memory(limit):
            assert default_body_limit() == body * MIB


async def test_one_page_at_a_time_when_memory_is_very_short() -> None:
    turns = Turns()
    order: list[str] = []

    async def scrape(name: str, expected: int, finish: asyncio.Event) -> None:
        if not turns.free(expected):
            order.append(f"{name} waits")
            await turns.wait(expected)
        with turns:
            order.append(f"{name} begins")
            await finish.wait()

    events = [asyncio.Event() for _ in range(4)]
    with memory(100, 50) as said:
        first = asyncio.create_task(scrape("large", 30 * MIB, events[0]))
        await asyncio.sleep(0)
        said.used += 30 * MIB  # what the first one took
        PRESSURE.look()
        small = asyncio.create_task(scrape("small", 0, events[1]))
        second = asyncio.create_task(scrape("another", 30 * MIB, events[2]))
        await asyncio.sleep(0)
        said.used = 91 * MIB
        assert PRESSURE.look() is Level.SCRAPES
        third = asyncio.create_task(scrape("any", 0, events[3]))
        await asyncio.sleep(0)
        assert order == ["large begins", "small begins", "another waits", "any waits"]
        events[0].set()
        await first
        await asyncio.sleep(0)
        assert len(order) == 4, "small is still under way"
        events[1].set()
        await small
        await asyncio.sleep(0)
        assert order[4:] == ["another begins"], "alone, whatever the measurement says; the page itself will be metered"
        events[2].set()
        await second
        events[3].set()
        await third
    assert order[-1] == "any begins"
