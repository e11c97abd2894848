from __future__ import annotations

import math
import shutil
import subprocess

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from kofagent.prometheus.text import Meta, ParseError, Sample, number, scan, scan_line
from tests.support.examples import examples


def one(line: bytes, openmetrics: bool = False) -> Sample:
    page = line + (b"\n# EOF\n" if openmetrics else b"\n")
    samples = [item for item in scan(page, openmetrics) if isinstance(item, Sample)]
    assert len(samples) == 1
    return samples[0]


@pytest.mark.parametrize(
    ("line", "labels", "value"),
    [
        (b"a 1", {"__name__": "a"}, 1.0),
        (b"  a\t1  ", {"__name__": "a"}, 1.0),
        (b"a{} 1", {"__name__": "a"}, 1.0),
        (b'a { x = "1" , y="2", } 3', {"__name__": "a", "x": "1", "y": "2"}, 3.0),
        (b'a{x="1"y="2"} 3', {"__name__": "a", "x": "1", "y": "2"}, 3.0),
        (b'a{x="1"}3', {"__name__": "a", "x": "1"}, 3.0),
        (b'a{x="b 1"} 3', {"__name__": "a", "x": "b 1"}, 3.0),
        (b'a{x="}# {"} 3', {"__name__": "a", "x": "}# {"}, 3.0),
        (rb'a{x="\\n\n\"\d"} 3', {"__name__": "a", "x": '\\n\n"\\d'}, 3.0),
        (b'a{x=""} 3', {"__name__": "a"}, 3.0),
        (b'a{x="l1\nl2"} 3', {"__name__": "a", "x": "l1\nl2"}, 3.0),
        (b'{"a.b"} 3', {"__name__": "a.b"}, 3.0),
        (b'{"a.b","x.y"="z",q="r"} 3', {"__name__": "a.b", "x.y": "z", "q": "r"}, 3.0),
        (b":a:_9 0", {"__name__": ":a:_9"}, 0.0),
        (b"a -Inf", {"__name__": "a"}, -math.inf),
        (b"a +inf", {"__name__": "a"}, math.inf),
        (b"a .5e-3", {"__name__": "a"}, 0.0005),
    ],
)
def test_what_a_line_of_text_means(line: bytes, labels: dict[str, str], value: float) -> None:
    sample = one(line)
    assert (dict(sample.labels), sample.value) == (labels, value)


@pytest.mark.parametrize(
    "line",
    [
        b"a",
        b"a x",
        b"9a 1",
        b"a{x=1} 2",
        b'a{x="1} 2',
        b'a{x="1" 2',
        b'a{="1"} 2',
        b"a{,} 1",
        b'a{x="1",,} 1',
        b"a 1_0",
        b"a 1e999",
        b"a +nan",
        b"a 1 2 3",
        b"a 1 -5",
        b"a 1 1.5",
        b"a 1 99999999999999999999",
        b'a{x="1",x="2"} 1',
        b'a{__name__="b"} 1',
        b'{x="1"} 1',
        b'a{"b"} 1',
        b'a{x="\xff"} 1',
        b"# TYPE a gouge",
        b"# TYPE a",
        b":a:_9 0x",
        b"# HELP 9a x",
        b"a 1\r",
        b"a 0x1p-2",
        b"a \xd9\xa3",
        b'a 1 # {x="1"} 2',
        b'a{x="1"}{y="2"} 1',
    ],
)
def test_what_is_not_text(line: bytes) -> None:
    with pytest.raises(ParseError, match="line 2"):
        list(scan(b"ok 1\n" + line + b"\nok 2\n", False))


def test_help_without_a_name_is_a_comment() -> None:
    assert list(scan(b"# HELP\n", False)) == []


@pytest.mark.parametrize(
    "page",
    [
        b"a 1\n",
        b"a 1\n# EOF\nb 2\n",
        b"a  1\n# EOF\n",
        b" a 1\n# EOF\n",
        b"a 1 \n# EOF\n",
        b"\na 1\n# EOF\n",
        b"#HELP a x\n# EOF\n",
        b"# a comment\n# EOF\n",
        b"# TYPE a untyped\n# EOF\n",
        b"# UNIT a seconds\n# EOF\n",
        b'a{x="1"y="2"} 1\n# EOF\n',
        b'a{x="1", y="2"} 1\n# EOF\n',
        b'a{x="l1\nl2"} 1\n# EOF\n',
        b"a 1 2 3\n# EOF\n",
        b'a 1 # {x="1"}\n# EOF\n',
        b"a 1 NaN\n# EOF\n",
        b'a 1 # {"x"} 1\n# EOF\n',
        b"# EOF\n# EOF\n",
        b"a\t1\n# EOF\n",
        b"",
        b"a 1\n# EOF ",
        b"a 1\r\n# EOF\n",
    ],
)
def test_what_is_not_openmetrics(page: bytes) -> None:
    with pytest.raises(ParseError):
        list(scan(page, True))


def test_openmetrics() -> None:
    page = (
        b'# TYPE req_seconds histogram\n# UNIT req_seconds seconds\n# HELP req_seconds How \\"long\\".\n'
        b'req_seconds_bucket{le="1.0"} 4 1520879607.789 # {trace_id="k z",a="b"} 0.67 1520879607.5\n'
        b"req_seconds_count 4 # {} 9\n# EOF"
    )
    items = list(scan(page, True))
    assert items[:3] == [
        Meta("type", "req_seconds", "histogram"),
        Meta("unit", "req_seconds", "seconds"),
        Meta("help", "req_seconds", 'How "long".'),
    ]
    bucket, count = items[3], items[4]
    assert isinstance(bucket, Sample) and isinstance(count, Sample)
    assert bucket.timestamp_ms == 1520879607789 and bucket.exemplar is not None
    assert bucket.exemplar.labels == (("trace_id", "k z"), ("a", "b")) and bucket.exemplar.timestamp_ms == 1520879607500
    assert count.exemplar is not None and count.exemplar.labels == () and count.exemplar.value == 9.0


def test_a_reason_names_the_line_and_shows_little_of_it() -> None:
    with pytest.raises(ParseError) as error:
        list(scan(b"a 1\n\n# x\nb{" + b"y" * 500, False))
    assert str(error.value).startswith("line 4: ") and len(str(error.value)) < 160


@given(st.binary(max_size=80), st.booleans())
def test_no_bytes_crash_it(page: bytes, openmetrics: bool) -> None:
    for text in (page, b"a{" + page, b"# TYPE " + page, b'a{x="' + page + b'"} 1\n# EOF\n'):
        try:
            list(scan(text, openmetrics))
        except ParseError:
            pass


text_values = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=8)


@given(
    st.from_regex(r"\A[a-zA-Z_:][a-zA-Z0-9_:]{0,8}\Z"),
    st.dictionaries(st.from_regex(r"\A[a-zA-Z][a-zA-Z0-9_]{0,5}\Z"), text_values, max_size=3),
    st.floats(),
    st.booleans(),
)
def test_a_written_sample_reads_back(name: str, labels: dict[str, str], value: float, openmetrics: bool) -> None:
    def quote(text: str) -> str:
        return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'

    block = "{" + ",".join(f"{k}={quote(v)}" for k, v in labels.items()) + "}" if labels else ""
    line = f"{name}{block} {value!r}".encode()
    for sample in (one(line, openmetrics), scan_line(line, openmetrics)):
        assert isinstance(sample, Sample)
        assert dict(sample.labels) == {"__name__": name, **{k: v for k, v in labels.items() if v}}
        assert sample.value == value or (math.isnan(sample.value) and math.isnan(value))
        assert sample.raw == f"{name}{block}".encode()


pieces = st.sampled_from(
    [
        b"a",
        b"b_total",
        b"{",
        b"}",
        b'x="1"',
        b'"q"',
        b",",
        b" ",
        b"  ",
        b"\t",
        b"1",
        b"-2.5",
        b"NaN",
        b"# ",
        b"#",
        b"TYPE ",
        b"1795257868000",
        b"=",
        b'"',
    ]
)


@settings(max_examples=examples(300))
@given(st.lists(pieces, max_size=8), st.booleans())
def test_a_line_alone_is_read_as_on_a_page(parts: list[bytes], openmetrics: bool) -> None:
    line = b"".join(parts)
    assume(not openmetrics or line not in (b"", b"# EOF"))  # these have their meaning from their place on the page
    try:
        alone: object = scan_line(line, openmetrics)
    except ValueError:
        alone = "wrong"
    try:
        items = list(scan(line + (b"\n# EOF\n" if openmetrics else b"\n"), openmetrics))
        page: object = items[0] if items else None
    except ParseError:
        page = "wrong"
    assert repr(alone) == repr(page)  # equal, and NaN is like NaN


@pytest.mark.parametrize(
    ("text", "value"), [(b"5.", 5.0), (b"+7", 7.0), (b"1E3", 1000.0), (b"-infinity", -math.inf), (b"1e-999", 0.0)]
)
def test_numbers_go_reads(text: bytes, value: float) -> None:
    assert number(text) == value


@pytest.mark.parametrize(
    "text", [b"", b".", b"1e", b"--1", b" 1", b"1 ", b"0x10", b"1_000", b"-nan", b"inff", b"1e309", b"\xc2\xa01"]
)
def test_numbers_go_does_not_read(text: bytes) -> None:
    with pytest.raises(ValueError):
        number(text)


@pytest.mark.server("promtool")
def test_promtool_agrees_about_whole_pages() -> None:
    promtool = shutil.which("promtool")
    assert promtool
    pages = [
        b"# HELP a x\n# TYPE a counter\na_total 1\n",
        b"a 1\nb{",
        b'a{x="1"} 2 3\n',
        b"# TYPE a b\n",
        b'a{x="1",x="2"} 1\n',
        b'a{x="\\n"} 1\n',
    ]
    for page in pages:
        asked = subprocess.run([promtool, "check", "metrics"], input=page, capture_output=True, timeout=30, check=False)
        refused = b"error while linting" in asked.stderr
        try:
            list(scan(page, False))
            ours = False
        except ParseError:
            ours = True
        assert ours == refused, (page, asked.stderr)
