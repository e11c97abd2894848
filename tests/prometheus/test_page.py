from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kofagent.prometheus import parts
from kofagent.prometheus.families import canonical_bound
from kofagent.prometheus.page import AHEAD_MS, PageReader, SampleLimitError
from kofagent.prometheus.text import ParseError
from kofagent.telemetry.series import Series, sorted_labels
from tests.reference import page as plain
from tests.support.examples import examples

NOW = 1_795_257_868_000
Labels = tuple[tuple[str, str], ...]


def finish(pairs: Labels) -> Labels | None:
    labels = dict(pairs)
    if labels["__name__"].startswith("drop_"):
        return None
    labels.pop("noise", None)
    return sorted_labels({**labels, "job": "j"})


def rows(reader: PageReader, page: bytes, openmetrics: bool = False) -> list[tuple[Labels, float, int | None]]:
    scraped = reader.read(page, openmetrics, NOW)
    times = scraped.timestamps or [None] * len(scraped.series)
    assert len(scraped.series) == len(scraped.values) == len(times)
    return [(s.labels, v, t) for s, v, t in zip(scraped.series, scraped.values, times, strict=True)]


def same(a: list[tuple[Labels, float, int | None]], b: list[tuple[Labels, float, int | None]]) -> bool:
    return len(a) == len(b) and all(
        x[0] == y[0] and x[2] == y[2] and (x[1] == y[1] or (math.isnan(x[1]) and math.isnan(y[1])))
        for x, y in zip(a, b, strict=True)
    )


SERIES = [
    b"a",
    b"b_total",
    b'b_total{x="1"}',
    b'b_total{x="1",}',
    b'c{x="a b"}',
    b'c{x="a\\"b"}',
    b'c{ x = "1" }',
    b"drop_me",
    b'drop_me{y="1"}',
    b'h_bucket{le="1"}',
    b'h_bucket{le="1.0"}',
    b'h_bucket{le="+Inf"}',
    b"h_sum",
    b"h_count",
    b'q{quantile="0.50"}',
    b'{"d.e"}',
    b'c{noise="1",x="z"}',
    b'c{noise="2",x="z"}',
    b'c{x="\xc3\xa9"}',
    b'c{x="\xff"}',
    b'c{x="l1\nl2"}',
    b"# c",
    b'c{x="1",x="2"}',
    b"9x",
]
VALUES = [b"0", b"1", b"2.5", b"-3e+08", b"NaN", b"+Inf", b"-Inf", b"1e999", b"1_0", b"+nan", b"7.", b"x", b"inf"]
TIMES = [b"", b"", b"", b"", b" 1795257868000", b" 1795257868001", b" 1.5", b" 9999999999999", b" -1"]
EXEMPLARS = [b"", b"", b"", b"", b"", b' # {trace_id="1"} 1', b' # {trace_id="1 2"} 1 1.5']
SAMPLES = [b"%b %b%b%b" % parts for parts in itertools.product(SERIES, VALUES, TIMES, EXEMPLARS)]
OTHERS = [
    b"# TYPE h histogram",
    b"# TYPE q summary",
    b"# TYPE b counter",
    b"# HELP a x",
    b"# TYPE b_total counter",
    b"# TYPE a wrong",
    b"# free words",
    b"",
    b"#",
    b"a  1",
    b" a 1",
    b"a\t1",
    b"a 1 ",
    b"a 1\r",
]


class Choices:
    """What the bytes of one draw choose: a draw for each line would take several times what reading the pages takes."""

    def __init__(self, drawn: bytes) -> None:
        self._bytes = iter(drawn)

    def below(self, limit: int) -> int:
        return next(self._bytes) % limit

    def line(self) -> bytes:
        number = next(self._bytes) << 8 | next(self._bytes)
        return (OTHERS if number & 1 else SAMPLES)[(number >> 1) % len(OTHERS if number & 1 else SAMPLES)]


def change_of_page(drawn: bytes) -> tuple[list[bytes], list[tuple[int, bytes]], int]:
    """Up to 8 new lines, up to two edits, and how the page is made."""
    choose = Choices(drawn)
    how, fresh, changes = choose.below(3), choose.below(9), choose.below(3)
    return [choose.line() for _ in range(fresh)], [(choose.below(10), choose.line()) for _ in range(changes)], how


program_text = st.lists(st.binary(min_size=25, max_size=25).map(change_of_page), min_size=1, max_size=5)


def edits(lines: list[bytes], changes: list[tuple[int, bytes]]) -> list[bytes]:
    out = list(lines)
    for at, text in changes:
        if out:
            out[at % len(out)] = text
    return out


@settings(max_examples=examples(400), deadline=None)
@given(program_text, st.booleans(), st.booleans())
def test_remembering_changes_nothing(
    program: list[tuple[list[bytes], list[tuple[int, bytes]], int]], openmetrics: bool, timed: bool
) -> None:
    """Whatever pages came before, a page gives what reading it from the start gives; series that ended are ended once."""
    pages = []
    lines: list[bytes] = []
    for fresh, changes, how in program:
        lines = fresh if how == 0 or not lines else edits(lines, changes)
        shown = [line + b" %d" % (NOW + how) if timed and line[:1].isalpha() and b" 17" not in line else line for line in lines]
        pages.append((b"".join(line + b"\n" for line in shown) + (b"# EOF\n" if openmetrics else b""), openmetrics))
    compare(pages)


def compare(pages: list[tuple[bytes, bool]]) -> None:
    """One reader against the twin that remembers nothing; a page, and whether it is OpenMetrics."""
    follow(pages)
    with pytest.MonkeyPatch.context() as patch:
        in_parts(patch)
        follow(pages)


def in_parts(patch: pytest.MonkeyPatch, size: int = 30) -> None:
    """Every page is large, and its parts are small."""
    for name, value in (("SMALL", -1), ("LARGE", -1), ("PART", size)):
        patch.setattr(parts, name, value)


def follow(pages: list[tuple[bytes, bool]]) -> None:
    reader = PageReader(finish)
    live: set[Labels] = set()
    for page, openmetrics in pages:
        try:
            expected, tracked = plain.read(page, openmetrics, NOW, finish)
        except ParseError:
            with pytest.raises(ValueError):
                reader.read(page, openmetrics, NOW)
            assert {s.labels for s in reader.fail()} == live
            live = set()
            continue
        scraped = reader.read(page, openmetrics, NOW)
        times = scraped.timestamps or [None] * len(scraped.series)
        found = [(s.labels, v, t) for s, v, t in zip(scraped.series, scraped.values, times, strict=True)]
        assert same(found, expected), (page, found, expected)
        assert {s.labels for s in scraped.stale} == live - tracked
        assert len(scraped.stale) == len(live - tracked)
        live = tracked


STEADY = [
    b"# TYPE h histogram",
    b"a",
    b'c{x="1"}',
    b"drop_me",
    b'h_bucket{le="1.0"}',
    b"h_count",
    b'c{x="2"}',
    b"drop_two",
    b'c{noise="1",x="3"}',
    b"e",
    b"f",
    b"",
]
STEADY_VALUES = [b"0", b"1", b"2.5", b"2.5", b"-3e+08", b"NaN", b"+Inf", b"7."]
BAD_VALUES = [b"1_0", b"1e999", b"+nan", b"x"]
TEXTS = [b"# free words", b"", b'c{x="1"}', b'c{noise="2",x="3"}', b"# TYPE h gauge"]
KINDS = ["value", "value", "value", "bad", "text", "swap", "cut"]
MODES = ["", "", "all", "all", "all", "some", "future", "exemplar"]


def steady_page(drawn: bytes) -> tuple[list[Any], str, bool, int]:
    """Up to three edits, which lines have times, whether the last has a newline, and the turn."""
    choose = Choices(drawn)
    edited, mode, newline, turn = choose.below(4), MODES[choose.below(len(MODES))], choose.below(2), choose.below(3)
    out: list[Any] = []
    for _ in range(edited):
        kind, at = KINDS[choose.below(len(KINDS))], choose.below(len(STEADY))
        if kind == "cut":
            out.append((kind, at))
        elif kind == "swap":
            out.append((kind, at, choose.below(len(STEADY))))
        else:
            among = {"value": STEADY_VALUES, "bad": BAD_VALUES, "text": TEXTS}[kind]
            out.append(("text" if kind == "text" else "value", at, among[choose.below(len(among))]))
    return out, mode, bool(newline), turn


steady_pages = st.lists(st.binary(min_size=13, max_size=13).map(steady_page), min_size=2, max_size=8)


@settings(max_examples=examples(400), deadline=None)
@given(steady_pages, st.booleans(), st.sampled_from([None, "", "", "all"]))
def test_pages_that_change_a_little(program: list[tuple[list[Any], str, bool, int]], openmetrics: bool, always: str | None) -> None:
    """Pages as targets have them: long, few lines change; times and formats that come and go are rare."""
    lines = [(text, b"1") for text in STEADY if text or not openmetrics]
    pages = []
    for changes, mode, newline, turn in program:
        for kind, at, *what in changes:
            if at >= len(lines):
                continue
            text, value = lines[at]
            if kind == "value":
                lines[at] = text, what[0]
            elif kind == "text":
                lines[at] = what[0], value
            elif kind == "cut":
                lines = [*lines[:at], *lines[at + 1 :]]
            elif what[0] < len(lines):
                lines[at], lines[what[0]] = lines[what[0]], lines[at]
        pages.append((steady(lines, mode if always is None else always, turn, openmetrics, newline), openmetrics))
    compare(pages)
    compare([(page if form else page + b"# EOF\n", form != (i == 1)) for i, (page, form) in enumerate(pages)])


def steady(lines: list[tuple[bytes, bytes]], mode: str, turn: int, openmetrics: bool, newline: bool) -> bytes:
    out = []
    for i, (text, value) in enumerate(lines):
        line = text
        if text[:1] not in (b"", b"#"):
            stamp = NOW + turn + (AHEAD_MS if mode == "future" and i == 4 else 0)
            timed = mode in ("all", "future") or (mode == "some" and i % 2)
            line += b" " + value + (b" %d" % stamp if timed and not openmetrics else b" %d" % (stamp // 1000) if timed else b"")
            line += b' # {trace_id="1"} 1' if mode == "exemplar" and openmetrics and i == 2 else b""
        out.append(line)
    if openmetrics:
        out.append(b"# EOF")
    return b"\n".join(out) + (b"\n" if newline else b"")


def test_series_are_the_same_objects_from_page_to_page() -> None:
    reader = PageReader(finish)
    first = reader.read(b'a{x="1"} 1\nb 2\ndrop_x 3\n', False, NOW)
    assert (first.total, first.kept, first.added) == (3, 2, 2)
    second = reader.read(b'a{x="1"} 1\nb 5\ndrop_x 4\n', False, NOW)
    assert second.series is first.series and second.values == [1.0, 5.0] and second.added == 0 and not second.stale
    third = reader.read(b'b 5\na{x="1"} 7\n', False, NOW)
    uneven = [reader.read(b'a{x="1"} 1 %d\nb 5\n' % (NOW + i), False, NOW) for i in range(2)]
    assert uneven[0].series is uneven[1].series and uneven[1].timestamps == [NOW + 1, None]
    assert third.series[0] is first.series[1] and third.series[1] is first.series[0] and third.added == 0


def test_the_same_lines_in_other_places() -> None:
    reader = PageReader(finish)
    for page, expected in (
        (b"\n\na 1\nb 2\nc 3\n", [1, 2, 3]),
        (b"a 1\nb 2\nc 3\n\n\n", [1, 2, 3]),
        (b"a 1\nb 2\nc 9\n\n\n", [1, 2, 9]),
        (b"# x\na 1\nb 2\nc 9\n\n", [1, 2, 9]),
        (b"a 1\n# x\nb 2\nc 9\n\n", [1, 2, 9]),
        (b"a 1\n# x\nb 5\nc 9\n\n", [1, 5, 9]),
    ):
        assert [v for _, v, _ in rows(reader, page)] == expected


def test_values_that_go_back_and_lines_that_come_without_a_newline() -> None:
    reader = PageReader(finish)
    for page, expected in (
        (b"a 1\nb 2\nc 3\n", [1, 2, 3]),
        (b"a 1\nb 5\nc 3\n", [1, 5, 3]),
        (b"a 1\nb 2\nc 3\n", [1, 2, 3]),
        (b"a 1\nb 2\nc 3", [1, 2, 3]),
        (b"a 1\nb 2\nc 3\nd 4", [1, 2, 3, 4]),
        (b"a 1\nb 2", [1, 2]),
    ):
        assert [v for _, v, _ in rows(reader, page)] == expected


def test_blank_lines_that_come_and_go_move_no_value() -> None:
    reader = PageReader(finish)
    for page, expected in (
        (b"a 1\nb 2\n", [1, 2]),
        (b"\n\na 1\nb 2\n", [1, 2]),
        (b"\n\na 1\nb 9\n", [1, 9]),
        (b"\n\na 1\nb 9\n\n\n\n", [1, 9]),
        (b"a 3\nb 9\n\n\n\n\n\n", [3, 9]),
    ):
        assert [v for _, v, _ in rows(reader, page)] == expected


def test_a_page_with_ignored_times_leaves_no_places_of_lines_behind() -> None:
    reader = PageReader(finish, honor_timestamps=False)
    for page, expected in (
        (b"drop_x 1\na 1\nb 2\n", [1, 2]),
        (b"x 1 5\na 1 5\nb 2 5\n", [1, 1, 2]),
        (b"x 1\na 1\nb 2\n", [1, 1, 2]),
        (b"x 1\na 7\nb 2\n", [1, 7, 2]),
    ):
        assert [v for _, v, _ in rows(reader, page)] == expected


@pytest.mark.parametrize("tail", [b"", b" %d" % NOW], ids=["plain", "timed"])
def test_texts_that_change_under_the_same_labels_do_not_grow_the_cache(tail: bytes) -> None:
    """A label that relabelling removes may have another value on each page: the series stay, their texts do not."""
    reader = PageReader(finish)
    for i in range(300):
        page = b"".join(b'a{noise="%d",x="%d"} 1%s\n' % (i, j, tail) for j in range(10))
        scraped = reader.read(page, False, NOW)
        assert len(scraped.series) == 10 and not scraped.stale
    assert len(reader._raw) < 1100


def test_a_series_that_goes_is_ended_and_forgotten_and_counts_as_new_when_it_comes_back() -> None:
    reader = PageReader(finish)
    gone = reader.read(b"a 1\nb 2\n", False, NOW).series[1]
    scraped = reader.read(b"a 1\n", False, NOW)
    assert list(scraped.stale) == [gone]
    assert not reader.has(gone.labels)
    assert reader.read(b"a 1\n", False, NOW).stale == ()
    assert reader.read(b"a 1\nb 2\n", False, NOW).added == 1


def test_churn_does_not_grow_the_cache() -> None:
    reader = PageReader(finish)
    for i in range(200):
        reader.read(b"".join(b'a{x="%d"} 1\n' % (i * 50 + j) for j in range(50)), False, NOW)
    assert len(reader._raw) == 50 and not reader._fresh and len(reader._tracked) == 50
    for i in range(200):
        with pytest.raises(ParseError):
            reader.read(b"".join(b'b{x="%d"} 1\n' % (i * 50 + j) for j in range(50)) + b"wrong", False, NOW)
        reader.fail()
    assert len(reader._raw) < 2000


def test_a_failed_scrape_ends_all_and_what_comes_back_is_not_new() -> None:
    reader = PageReader(finish)
    series = reader.read(b"a 1\nb 2\n", False, NOW).series
    assert list(reader.fail()) == list(series)
    assert list(reader.fail()) == []
    again = reader.read(b"a 1\nb 2\n", False, NOW)
    assert again.added == 0 and list(again.series) == list(series)
    assert list(reader.fail()) == list(series)


def test_times_of_the_page() -> None:
    reader = PageReader(finish)
    page = b"a 1 %d\nb 2\nc 3 %d\n" % (NOW - 5, NOW + AHEAD_MS + 1)
    scraped = reader.read(page, False, NOW)
    assert [s.name for s in scraped.series] == ["a", "b"] and scraped.timestamps == [NOW - 5, None] and scraped.out_of_bounds == 1
    # A series with a time of its own just ends: Prometheus writes no marker for it unless it is told to.
    assert [s.name for s in reader.read(b"d 1\n", False, NOW).stale] == ["b"]
    assert len(rows(reader, b"a 1 %d\nc 3 %d\n" % (NOW, NOW + AHEAD_MS + 1))) == 1
    assert len(rows(reader, b"a 1 %d\nc 3 %d\n" % (NOW, NOW))) == 2
    tracking = PageReader(finish, track_timestamps=True)
    tracking.read(page, False, NOW)
    assert [s.name for s in tracking.read(b"d 1\n", False, NOW).stale] == ["a", "b"]
    for turn in range(3):
        tracking.read(b"a 1 %d\nc 3 %d\n" % (NOW + turn, NOW), False, NOW)
    assert [s.name for s in tracking.read(b"c 1\n", False, NOW).stale] == ["a"]
    ignoring = PageReader(finish, honor_timestamps=False)
    assert rows(ignoring, b"a 1 5\n") == [((("__name__", "a"), ("job", "j")), 1.0, None)]
    assert rows(ignoring, b"a 1 6\n") == [((("__name__", "a"), ("job", "j")), 1.0, None)]
    assert rows(ignoring, b"a 2 6\n") == [((("__name__", "a"), ("job", "j")), 2.0, None)]


def test_pages_of_times_only_follow_their_values() -> None:
    reader = PageReader(finish)
    for i in range(4):
        page = b"".join(b'm{x="%d"} %d %d\n' % (j, i * j, NOW + i) for j in range(5)) + b"drop_it 1 %d\n" % NOW
        found = rows(reader, page)
        assert [v for _, v, _ in found] == [float(i * j) for j in range(5)] and {t for _, _, t in found} == {NOW + i}
    assert [t for _, _, t in rows(reader, b"".join(b'm{x="%d"} 1 %d\n' % (j, NOW + AHEAD_MS * 2) for j in range(5)))] == []


def test_duplicates_keep_the_first() -> None:
    scraped = PageReader(finish).read(b'c{noise="1"} 1\nc{noise="2"} 2\n', False, NOW)
    assert scraped.values == [1.0] and (scraped.total, scraped.kept, scraped.duplicates) == (2, 2, 1)


def test_sample_limit_counts_what_relabelling_leaves() -> None:
    reader = PageReader(finish, sample_limit=2)
    assert len(reader.read(b"a 1\nb 1\ndrop_a 1\ndrop_b 1\n", False, NOW).series) == 2
    with pytest.raises(SampleLimitError) as error:
        reader.read(b"a 1\nb 1\nc 1\ndrop_a 1\n", False, NOW)
    assert (error.value.total, error.value.kept) == (4, 3)
    assert [s.name for s in reader.fail()] == ["a", "b"]


def test_families_follow_their_metadata() -> None:
    reader = PageReader(finish)
    series = reader.read(b'# TYPE h histogram\n# HELP h First.\nh_bucket{le="1"} 1\nh_count 1\nh_other 2\n', False, NOW).series
    described: list[Series] = list(series)
    assert [(s.family.type, s.family.help) if s.family else None for s in described] == [
        ("histogram", "First."),
        ("histogram", "First."),
        None,
    ]
    again = reader.read(b'# TYPE h histogram\n# HELP h Second.\nh_bucket{le="1"} 1\nh_count 1\nh_other 2\n', False, NOW).series
    assert again is not series and list(again) == described, "what was worked out for the column is out of date"
    assert described[0].family is not None and described[0].family.help == "Second."


def test_a_type_that_comes_later_changes_how_known_lines_are_read() -> None:
    reader = PageReader(finish)
    assert rows(reader, b'h_bucket{le="1.0"} 1\n')[0][0] == (("__name__", "h_bucket"), ("job", "j"), ("le", "1.0"))
    assert rows(reader, b'# TYPE h histogram\nh_bucket{le="1.0"} 1\n')[0][0][2] == ("le", "1")
    assert rows(reader, b'# TYPE h gauge\nh_bucket{le="1.0"} 1\n')[0][0][2] == ("le", "1.0")


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("1", "1"),
        ("1.0", "1"),
        ("1e6", "1000000"),
        ("0.1", "0.1"),
        ("1e-7", "0.0000001"),
        ("+Inf", "+Inf"),
        ("inf", "+Inf"),
        ("x", "x"),
        ("1e+21", "1000000000000000000000"),
    ],
)
def test_bounds_are_written_one_way(text: str, written: str) -> None:
    assert canonical_bound(text) == written


@pytest.mark.slow
@pytest.mark.parametrize("size", [5, 30, 10_000])
@pytest.mark.parametrize(
    "test",
    [
        test_the_same_lines_in_other_places,
        test_a_page_with_ignored_times_leaves_no_places_of_lines_behind,
        test_a_series_that_goes_is_ended_and_forgotten_and_counts_as_new_when_it_comes_back,
        test_churn_does_not_grow_the_cache,
        test_a_failed_scrape_ends_all_and_what_comes_back_is_not_new,
        test_times_of_the_page,
        test_pages_of_times_only_follow_their_values,
        test_duplicates_keep_the_first,
        test_sample_limit_counts_what_relabelling_leaves,
        test_families_follow_their_metadata,
        partial(test_texts_that_change_under_the_same_labels_do_not_grow_the_cache, b""),
        partial(test_texts_that_change_under_the_same_labels_do_not_grow_the_cache, b" %d" % NOW),
    ],
)
def test_a_large_page_is_read_as_a_small_one(test: Callable[[], None], size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    in_parts(monkeypatch, size)
    test()
