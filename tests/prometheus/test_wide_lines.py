"""One line of a page never holds the event loop for long: what is too wide is refused before it is taken apart."""

from __future__ import annotations

import itertools
import re
import time
from collections.abc import Callable
from typing import Any

import pytest

from kofagent.prometheus.config import ScrapeConfig
from kofagent.prometheus.page import STEP_BYTES, PageReader
from kofagent.prometheus.target import finisher, sample_rules
from kofagent.prometheus.text import MOST_BYTES, MOST_LABELS, PageError, scan, scan_line

_TAIL = b"# EOF\n"


def _reader() -> PageReader:
    job = ScrapeConfig.model_validate({"job_name": "j"})
    return PageReader(finisher(job, sample_rules(job), {"job": "j"}, {}))


def _labels(count: int, form: bytes = b'l%d="x"') -> bytes:
    return b",".join([form % i for i in range(count)])


def _long(text: bytes) -> bytes:
    return text * (MOST_BYTES // len(text) + 1)


WIDE = {
    "labels": b"a{" + _labels(MOST_LABELS + 1) + b"} 1\n",
    "labels with escapes": b"a{" + _labels(MOST_LABELS + 1, b'l%d="\\n"') + b"} 1\n",
    "empty labels": b"a{" + _labels(MOST_LABELS + 1, b'l%d=""') + b"} 1\n",
    "quoted names": b'{"a",' + _labels(MOST_LABELS + 1, b'"l%d"="x"') + b"} 1\n",
    "labels of an exemplar": b"a_total 1 # {" + _labels(MOST_LABELS + 1) + b"} 1\n",
    "a value": b'a{b="' + _long(b"x") + b'"} 1\n',
    "a value of escapes": b'a{b="' + _long(b"\\n") + b'"} 1\n',
    "a help text": b"# HELP a " + _long(b"\\n") + b"\na 1\n",
    "a quoted name": b'{"' + _long(b"x") + b'"} 1\n',
}


@pytest.mark.parametrize("openmetrics", [False, True], ids=["text", "openmetrics"])
@pytest.mark.parametrize("name", WIDE)
def test_a_line_that_is_too_wide_fails_its_page(name: str, openmetrics: bool) -> None:
    if "exemplar" in name and not openmetrics:
        return
    page = b"b 1\n" + WIDE[name] + _TAIL
    it = _reader()
    for reading in (lambda: it.read(page, openmetrics, 0), lambda: list(scan(page, openmetrics))):
        with pytest.raises(PageError, match=f"more than ({MOST_LABELS} labels|1 MiB in one line)"):
            reading()
    assert it.read(b"b 1\n" + _TAIL, openmetrics, 0).kept == 1


def test_a_label_over_many_lines_has_the_same_limit() -> None:
    """Labels of the text format may have line breaks: then the page is not read by its lines."""
    with pytest.raises(PageError, match="1 MiB in one line"):
        _reader().read(b'a{b="' + _long(b"x\n") + b'"} 1\n', False, 0)


def test_what_is_just_not_too_wide_is_read() -> None:
    widest = b"a{" + _labels(MOST_LABELS) + b"} 1\n"
    longest = b'b{c="' + b"x" * (MOST_BYTES - len(b'b{c=""} 1')) + b'"} 1\n'
    quotes = b'c{d="' + b'\\"' * 3 * MOST_LABELS + b'"} 1\n'
    assert _reader().read(widest + longest + quotes, False, 0).kept == 3


def test_refusing_a_wide_line_costs_as_much_as_reading_the_widest_that_is_taken() -> None:
    def cost(turn: int, labels: int) -> float:
        page = b"a{" + _labels(labels, b'l%%d="%d"' % turn) + b"} 1\n"
        it, began = _reader(), time.process_time()
        try:
            it.read(page, False, 0)
        except PageError:
            assert labels > MOST_LABELS
        return time.process_time() - began

    pairs = [(cost(turn, MOST_LABELS), cost(turn, 60 * MOST_LABELS)) for turn in range(3)]
    assert min(refused for _, refused in pairs) < 6 * min(taken for taken, _ in pairs), pairs


@pytest.mark.parametrize("broken", [False, True], ids=["by lines", "as a whole"])
def test_wide_lines_are_read_a_few_at_a_time(broken: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = [b"a%d{" % i + _labels(MOST_LABELS // 4) + b"} 1\n" for i in range(60)]
    page, worked, steps = b"".join(lines) + (b'b{c="\n"} 1\n' if broken else b""), 0, [0]

    def counting(of: Callable[..., Any], size: Callable[..., int]) -> Callable[..., Any]:
        def one(*arguments: Any) -> Any:
            nonlocal worked
            worked += size(*arguments)
            return of(*arguments)

        return one

    if broken:
        items = counting(lambda item: item, lambda item: len(getattr(item, "raw", b"")))
        monkeypatch.setattr("kofagent.prometheus.page.scan", lambda *given: map(items, scan(*given)))
    else:
        monkeypatch.setattr("kofagent.prometheus.page.scan_line", counting(scan_line, lambda line, _: len(line)))
    for _ in _reader().reading(page, False, 0):
        steps.append(worked)
        worked = 0
    steps.append(worked)
    assert sum(steps) > 0.9 * len(page) and max(steps) <= STEP_BYTES + 2 * len(lines[0]), steps


def test_escapes_are_read_from_the_left() -> None:
    """All short texts, as a pattern that goes from escape to escape reads them."""
    for length in range(1, 6):
        for letters in itertools.product('\\n"a', repeat=length):
            text = "".join(letters)
            if not re.fullmatch(r'(?:\\.|[^\\"])+', text):
                continue
            (sample,) = scan(f'a{{b="{text}"}} 1\n'.encode(), False)
            expected = re.sub(r'\\(["\\n])', lambda m: "\n" if m[1] == "n" else m[1], text)
            assert sample.labels[1] == ("b", expected)  # type: ignore[union-attr]
            (meta,) = scan(f"# HELP a {text}\n".encode(), False)
            assert meta.text == re.sub(r"\\([\\n])", lambda m: "\n" if m[1] == "n" else m[1], text)  # type: ignore[union-attr]
