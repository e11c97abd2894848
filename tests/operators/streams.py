"""Files as streams of lines, from the usual to the hostile, and what becomes of them in a chain, compiled or plain.

Records are decoded by Google's protobuf, so comparisons also hold our bytes against an independent reader.
"""

from __future__ import annotations

import itertools
import json
import logging
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, TypeVar

from hypothesis import strategies as st
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest

from kofagent.operators.chain import Chain, PlainStream, Stream
from tests.support.trees import grow

PATH = "/var/log/pods/default_web-0_2ea1b0ce-52ac-4a3c-9a21-4b4c9bd0a2e4/web/0.log"
LOG = logging.getLogger("test.operators")
LOG.setLevel(logging.CRITICAL)
T = TypeVar("T")


class Result(NamedTuple):
    """What came of some lines: records, counts of lost ones, entries still held before the last flush, and what was logged."""

    records: list[Any]
    counts: Counter[str]
    held: int
    said: set[str]


class _Said(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.messages: set[str] = set()

    def emit(self, record: logging.LogRecord) -> None:
        self.messages.add(record.getMessage())


def run(operators: list[dict[str, Any]], chunks: list[bytes], *, compiled: bool, path: str = PATH) -> tuple[Result, PlainStream]:
    """The lines through the operators; with the stream as it is at the end."""
    counts: Counter[str] = Counter()
    said = _Said()
    log = logging.Logger("chain")
    log.addHandler(said)
    chain = Chain(
        operators,
        dropped=lambda r, n: counts.update({f"dropped {r}": n}),
        filtered=lambda r, n: counts.update({f"filtered {r}": n}),
        log=log,
        compiled=compiled,
        attributes={"static": "1"},
        resource={"host": "h"},
    )
    stream = chain.open({"log.file.path": path, "log.file.name": "0.log"})
    found: list[Any] = []
    held = 0
    for i, chunk in enumerate(chunks):
        stream.feed_chunk(chunk, 1000 + i)
        held = stream.held
        found += decoded(*stream.take())
    stream.flush(5000, force=True)
    found += decoded(*stream.take())
    assert stream.held == 0
    return Result(found, counts, held, said.messages), stream


def outcome(operators: list[dict[str, Any]], chunks: list[bytes], *, compiled: bool, path: str = PATH, shape: str = "") -> Result:
    """What comes of the lines; `shape` is that of the compiled stream, also after them."""
    result, stream = run(operators, chunks, compiled=compiled, path=path)
    if shape and compiled:
        assert isinstance(stream, Stream)
        assert stream.shape == shape
    return result


def decoded(payload: bytes, count: int) -> list[Any]:
    out = []
    for group in ExportLogsServiceRequest.FromString(payload).resource_logs:
        resource = sorted((a.key, str(a.value)) for a in group.resource.attributes)
        for scope in group.scope_logs:
            for r in scope.log_records:
                out.append(
                    (
                        resource,
                        scope.scope.name,
                        r.time_unix_nano,
                        r.observed_time_unix_nano,
                        r.severity_number,
                        r.severity_text,
                        str(r.body),
                        sorted((a.key, str(a.value)) for a in r.attributes),
                        r.trace_id,
                        r.span_id,
                        r.flags,
                    )
                )
    assert len(out) == count
    # The order of resources in a request has no meaning; the order within one has.
    return sorted(out, key=lambda r: (r[0], r[1]))


WORDS = [
    "error",
    "ERROR",
    "warn",
    "Warning",
    "info",
    "I1121 x",
    "e12345",
    "panic",
    "debug",
    "",
    "x",
    " ",
    "critical",
    "fail",
    "F1121",
    "\u017ftop",
    "\u212a",
    "ok",
    "failed",
    '{"a":1}',
    "a=b",
    "emerg",
    "\u00e9\u65e5",
    "err",
    "notice1234",
    "\x00",
    "\r",
    "\t",
    "infoerror",
    "=",
    "KEY",
    "skip",
    "Skip",
    "token=abc",
    "12",
    "\u2028",
    "\u0085",
]
TIMES = [
    "2026-11-21T10:44:28.123456789Z",
    "2026-11-21T10:44:28.000000000Z",
    "2026-11-21T10:44:29.5Z",
    "2026-11-21T10:44:29Z",
    "2026-02-30T10:44:28.000000000Z",
    "2026-11-21T10:44:28.123456789+02:00",
    "2026-11-21T10:44:28.123456789-10:00",
    "1960-01-01T00:00:00.000000000Z",
    "nonsense",
    "2026-11-21T10:44:60.000000000Z",
    "2026-11-21T25:44:00.000000000Z",
]
_DOCKER_TIMES = [*TIMES, *TIMES, "2026-11-21T10:44:28,5Z", "2026-11-21T10:44:28.1234567891Z", 5]
_GOOD = [
    f"{time} {stream} F "
    for time in ("2026-11-21T10:44:28.123456789Z", "2026-11-21T10:44:28.000000000Z", "2026-11-21T10:44:29.000000001Z")
    for stream in ("stdout", "stderr")
]
_RAW = [
    b'{"log":"docker warn\\n","stream":"stdout","time":"2026-11-21T10:44:28.1Z"}',
    b"2026-11-21T10:44:28.123456789Z stdout F bad \xff\xc3 utf8 error",
]
_ODD = [
    b'{"log":"a","log":"b","stream":"stdout","time":"2026-11-21T10:44:28Z"}',
    b"{}",
    b"{",
    b'{"log":NaN}',
    b"[]",
    b' {"log":"a","stream":"stdout","time":"2026-11-21T10:44:28Z"}',
    b'{"log":' * 300,
    b'{"log":"a\\n","stream":"stdout","time":"2026-11-21T10:44:28Z"} ',
]

# Lines are made of bytes that are drawn at once: what a draw costs is most of what these properties take, and a byte says as much
# as a choice does. Each function takes as many as it needs; where there are no more, they are zero.


def _of(chosen: Iterator[int], values: Sequence[T]) -> T:
    return values[next(chosen, 0) % len(values)]


def _some(chosen: Iterator[int], most: int) -> bytes:
    return bytes(itertools.islice(chosen, next(chosen, 0) % (most + 1)))


def _text(chosen: Iterator[int]) -> str:
    return " ".join([WORDS[b % len(WORDS)] for b in _some(chosen, 5)])


def _good(chosen: Iterator[int]) -> bytes:
    return (_of(chosen, _GOOD) + _text(chosen)).encode()


def _crio(chosen: Iterator[int]) -> bytes:
    return _good(chosen).replace(b"Z std", b"-10:00 std")


def _cri(chosen: Iterator[int]) -> bytes:
    stream, tag = _of(chosen, ("stdout", "stderr", "std")), _of(chosen, ("F ", "F ", "F ", "P ", "F", "P", "F:x ", " ", "X "))
    return f"{_of(chosen, TIMES)} {stream} {tag}{_text(chosen)}".encode()


def _raw(chosen: Iterator[int]) -> bytes:
    kind = next(chosen, 0) % 4
    if kind < 2:
        return _RAW[kind]
    return _text(chosen).encode() if kind == 2 else _some(chosen, 20).replace(b"\n", b"")


def _docker(chosen: Iterator[int]) -> bytes:
    time, stream = _of(chosen, _DOCKER_TIMES), _of(chosen, ("stdout", "stderr", "other"))
    extra: dict[str, Any] = _of(chosen, ({}, {}, {}, {"attrs": {"tag": "x"}}, {"log.iostream": 1}))
    body = (None, {"a": 1}, "x\ud800", _text(chosen))[next(chosen, 0) % 4]
    return json.dumps({"log": body, "stream": stream, "time": time, **extra}, ensure_ascii=False).encode("utf-8", "replace")


def _odd(chosen: Iterator[int]) -> bytes:
    return _of(chosen, _ODD)


def _line(chosen: Iterator[int]) -> bytes:
    return _of(chosen, (_good, _good, _good, _cri, _raw, _docker, _odd))(chosen)


_FILES = ((_line,), (_good,), (_crio, _crio, _cri), (_docker, _docker, _docker, _odd, _cri))
"""What lines of a chunk are made by."""


def _chunks(choices: bytes) -> list[bytes]:
    chosen = iter(choices)
    out = []
    for _ in range(1 + next(chosen, 0) % 4):
        makers = _of(chosen, _FILES)
        lines = [_of(chosen, makers)(chosen) for _ in range(1 + next(chosen, 0) % 12)]
        out.append(b"\n".join(lines) + b"\n")
    return out


chunks = st.binary(min_size=60, max_size=400).map(_chunks)


json_leaves = st.lists(st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5)), min_size=1, max_size=4)


def _json(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False).encode("utf-8", "replace").replace(b"\n", b" ")


_FORMATS = [
    b"<13>1 2026-11-21T10:44:28Z h a p m - hi",
    b'"quoted \\x"',
    b"a=b c=d",
    b"http://u@h:1/p?q=%zz",
    b"1,2",
    b'"1,"",2"',
    b'{"a":1795257868}',
    b'{"a":99999999999999999999999}',
    b'{"a":-1}',
    b"[1,2,{}]",
    b'{"log":1,"time":2}',
    b'{"log":{"a":1},"stream":"stdout","time":"2026-11-21T10:44:28.1Z"}',
    b"<999>x",
    b"<13>Oct 11 22:14:15 h t: m",
]


def _loose(leaves: list[Any], choices: bytes, most: int) -> list[bytes]:
    """From one to so many lines: any bytes, JSON, or a line of some format, as the bytes choose."""
    chosen = iter(choices)

    def some(limit: int) -> bytes:
        return bytes(itertools.islice(chosen, limit))

    out = []
    for _ in range(1 + next(chosen) % most):
        kind, number = divmod(next(chosen, 0), 64)
        if kind == 0:
            out.append(_FORMATS[number % len(_FORMATS)])
        elif kind == 1:
            out.append(some(number % 41).replace(b"\n", b""))
        else:
            value = grow(some(1 + number % 8), leaves, ("a", "b", ""))
            out.append(_json(value if kind == 2 else {"a": value}))
    return out


_choices = st.binary(min_size=50, max_size=250)
loose_lines = st.builds(_loose, json_leaves, _choices, st.just(8))
"""Lines of many formats, with bytes that are no UTF-8."""
hostile = st.lists(
    st.builds(_loose, json_leaves, _choices, st.just(12)).map(lambda ls: b"\n".join(ls) + b"\n"), min_size=1, max_size=3
)
"""Chunks of such lines, none in a container's format."""
