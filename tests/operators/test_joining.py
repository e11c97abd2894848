"""What joins entries: parts of any format, cut anywhere, over calls and over streams; compiled and plain."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest

from kofagent.operators.chain import Chain, Held, PlainStream

NO_PATH = {"add_metadata_from_filepath": False}
CONTAINER = {"type": "container", **NO_PATH}
BY_HAND: list[dict[str, Any]] = [
    {"type": "regex_parser", "regex": r"^(?P<time>[^ ]+) (?P<stream>stdout|stderr) (?P<logtag>[^ ]*) ?(?P<log>.*)$"},
    {"type": "move", "from": "attributes.log", "to": "body"},
    {"type": "recombine", "combine_field": "body", "is_last_entry": "attributes.logtag == 'F'", "combine_with": ""},
]
"""How containers' lines were joined before there was an operator for them."""


def chain(operators: list[dict[str, Any]], compiled: bool) -> Chain:
    log = logging.getLogger("test.quiet")
    return Chain(operators, dropped=lambda r, n: None, filtered=lambda r, n: None, log=log, compiled=compiled)


def records(stream: PlainStream) -> list[Any]:
    payload, _ = stream.take()
    groups = ExportLogsServiceRequest.FromString(payload).resource_logs
    return [record for group in groups for scope in group.scope_logs for record in scope.log_records]


def bodies(operators: list[dict[str, Any]], chunks: Iterable[bytes], compiled: bool) -> list[str]:
    stream = chain(operators, compiled).open({})
    for n, chunk in enumerate(chunks):
        stream.feed_chunk(chunk, n + 1)
    stream.flush(9, force=True)
    return [r.body.string_value for r in records(stream)]


both = pytest.mark.parametrize("compiled", [True, False], ids=["compiled", "plain"])


@both
@pytest.mark.parametrize("format", ["crio", "containerd", ""])
@pytest.mark.parametrize(
    ("time", "nanoseconds"),
    [
        ("2026-09-18T13:00:00.123456789+10:00", 1789700400123456789),
        ("2026-09-18T03:00:00.123456789Z", 1789700400123456789),
        ("2026-09-18T03:00:00.1234Z", 1789700400123400000),
        ("2026-09-18T03:00:00Z", 1789700400000000000),
        ("2026-09-17T23:30:00-03:30", 1789700400000000000),
    ],
)
def test_either_name_of_the_format_takes_what_the_runtimes_write(compiled: bool, format: str, time: str, nanoseconds: int) -> None:
    stream = chain([{**CONTAINER, "format": format}], compiled).open({})
    stream.feed_chunk(f"{time} stdout F one\n{time} stderr P two \n{time} stderr F:x and\n".encode(), 1)
    assert [(r.body.string_value, r.time_unix_nano) for r in records(stream)] == [("one", nanoseconds), ("two and", nanoseconds)]


def test_a_node_with_an_offset_is_as_fast_under_either_name() -> None:
    for format in ("crio", "containerd", ""):
        stream: Any = chain([{**CONTAINER, "format": format}], True).open({})
        stream.feed_chunk(b"2026-09-18T13:00:00.123456789+10:00 stdout F one\n", 1)
        assert stream._format.name == "crio"
    stream = chain([{**CONTAINER, "format": "containerd"}], True).open({})
    stream.feed_chunk(b'{"log":"x"}\n', 1)
    assert stream._format.name == "containerd"


def docker(log: Any, stream: str = "stdout", second: int = 1) -> bytes:
    return json.dumps({"log": log, "stream": stream, "time": f"2024-01-01T00:00:{second:02d}Z"}).encode() + b"\n"


@both
@pytest.mark.parametrize("format", ["docker", ""])
@pytest.mark.parametrize("at_once", [True, False])
def test_parts_of_docker_are_joined_per_stream_up_to_the_newline(compiled: bool, format: str, at_once: bool) -> None:
    lines = [
        docker("whole\n"),
        docker("one, ", "stderr", 2),
        docker("a\r\n", "stdout", 3),
        docker("two, ", "stderr", 4),
        docker({"k": 1}, "stderr", 5),
        docker("three\n", "stderr", 6),
        docker("\n"),
        docker("the end", "stdout", 7),
    ]
    stream = chain([{**CONTAINER, "format": format}], compiled).open({})
    for chunk in [b"".join(lines)] if at_once else lines:
        stream.feed_chunk(chunk, 1)
    assert stream.held == 1
    stream.flush(1, force=True)
    got = [(r.body.string_value, r.time_unix_nano // 10**9 % 60) for r in records(stream)]
    assert got == [("whole", 1), ("a", 3), ("", 5), ("one, two, three", 2), ("", 1), ("the end", 7)]


def parts(text: bytes, cuts: list[int], stream: str = "stdout") -> list[bytes]:
    """The lines a runtime writes that cuts a message at these offsets."""
    ends = [*sorted(c % (len(text) + 1) for c in cuts), len(text)]
    out, at = [], 0
    for n, end in enumerate(ends):
        tag = "F" if n == len(ends) - 1 else "P"
        out.append(f"2026-11-21T10:44:28.{n:09d}Z {stream} {tag} ".encode() + text[at:end] + b"\n")
        at = end
    return out


messages = st.text(st.sampled_from("a\u00e9\u65e5\U0001f600"), max_size=12).map(str.encode)
broken = st.one_of(messages, st.lists(st.sampled_from([b"a", b"\xff", b"\xe6\x97", b"\xa5", b"?"]), max_size=8).map(b"".join))


@both
@pytest.mark.parametrize("operators", [[CONTAINER], BY_HAND], ids=["container", "recombine"])
def test_a_character_that_is_cut_is_whole_again(compiled: bool, operators: list[dict[str, Any]]) -> None:
    @given(st.lists(st.tuples(broken, st.lists(st.integers(0, 50), max_size=3)), min_size=1, max_size=3), st.integers(1, 5))
    def check(texts: list[tuple[bytes, list[int]]], size: int) -> None:
        lines = [line for text, cuts in texts for line in parts(text, cuts)]
        chunks = [b"".join(lines[i : i + size]) for i in range(0, len(lines), size)]
        want = [text.decode("utf-8", "replace") for text, _ in texts]
        assert bodies(operators, chunks, compiled) == want
        if operators is not BY_HAND:  # whose series are not told apart by the stream
            noise = b"2026-11-21T10:44:28.000000000Z stderr F \xff noise\n"
            chunks = [noise.join([b"", *lines[i : i + size], b""]) for i in range(0, len(lines), size)]
            assert [b for b in bodies(operators, chunks, compiled) if "noise" not in b] == want

    check()


@both
def test_what_stays_no_text_is_replaced(compiled: bool) -> None:
    time = b"2026-11-21T10:44:28.000000001Z stdout "
    got = bodies([CONTAINER], [time + b"F \xe6\x97\n" + time + b"P \xe6\n", time + b"P \x97 \xe6\x97\n"], compiled)
    assert got == ["\ufffd", "\ufffd \ufffd"]


@both
def test_every_shape_says_where_in_the_call_the_entries_are_that_wait(compiled: bool) -> None:
    time = b"2026-11-21T10:44:28.000000001Z "
    last: dict[str, Any] = {"type": "recombine", "combine_field": "body", "is_last_entry": 'body endsWith "."'}
    level = {"type": "regex_parser", "regex": "(?P<level>error)", "on_error": "send_quiet"}
    cases: list[tuple[list[dict[str, Any]], list[bytes], list[int]]] = [
        ([CONTAINER], [b"stdout F a", b"stdout P b", b"stderr P c", b"stdout F d"], [2]),
        ([CONTAINER, level], [b"stdout F a", b"stdout P \xe6", b"stderr F \xff", b"stderr P d"], [1, 3]),
        ([CONTAINER, last], [b"stdout F a.", b"stderr F b.", b"stderr F c", b"stdout F d"], [2]),
        ([CONTAINER, last], [b"stdout F a.", b"stdout F \xff.", b"stderr P x", b"stdout F d"], [2, 3]),
    ]
    for operators, lines, waiting in cases:
        stream = chain(operators, compiled).open({})
        stream.feed_chunk(b"".join([time + line + b"\n" for line in lines]), 1)
        assert sorted(hold.position for hold in stream.holding.of(stream)) == waiting
    cases = [
        ([last], [b"a.", b"b", b"c"], [1]),
        ([last], [b"\xff.", b"b", b"\xff"], [1]),
        ([CONTAINER], [docker("a\n"), docker("b"), docker("c", "stderr")], [1, 2]),
        ([CONTAINER, last], [docker("a.\n"), docker("b\n"), docker("c", "stderr")], [1, 2]),
    ]
    for operators, entries, waiting in cases:
        stream = chain(operators, compiled).open({})
        stream.feed_entries([entry.rstrip(b"\n") for entry in entries], 1)
        assert sorted(hold.position for hold in stream.holding.of(stream)) == waiting


@both
def test_a_series_that_one_stream_began_ends_in_another(compiled: bool) -> None:
    whole, holding = chain([CONTAINER], compiled), Held()
    one, two = (whole.open({"file": name}, holding, name) for name in "ab")
    time = b"2026-11-21T10:44:28.000000001Z stdout "
    one.feed_chunk(time + b"F x\n" + time + b"P \xe6\x97\n", 1)
    assert [r.body.string_value for r in records(one)] == ["x"]
    assert (one.held, two.held, len(holding.of("a")), len(holding.of("b"))) == (1, 1, 1, 0)
    one.close()
    two.feed_chunk(time + b"F \xa5\n" + time + b"F y\n", 2)
    assert [r.body.string_value for r in records(two)] == ["\u65e5", "y"]
    assert not holding.of("a") and two.held == 0
