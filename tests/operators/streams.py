"""Files as streams of lines, from the usual to the hostile, and what becomes of them in a chain, compiled or plain.

Records are decoded by Google's protobuf, so comparisons also hold our bytes against an independent reader.
"""

from __future__ import annotations

import itertools
import json
import logging
from collections import Counter
from typing import Any, NamedTuple

from hypothesis import strategies as st
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest

from kofagent.operators.chain import Chain, PlainStream, Stream
from tests.support.trees import grow

PATH = "/var/log/pods/default_web-0_2ea1b0ce-52ac-4a3c-9a21-4b4c9bd0a2e4/web/0.log"
LOG = logging.getLogger("test.operators")
LOG.setLevel(logging.CRITICAL)


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
# One draw for a whole text: what a draw costs is most of what these properties take, and a byte says as much as a choice does.
texts = st.binary(max_size=5).map(lambda chosen: " ".join([WORDS[b % len(WORDS)] for b in chosen]))
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
times = st.sampled_from(TIMES)
_CRI = [
    f"{time} {stream} {tag}"
    for time in TIMES
    for stream in ("stdout", "stderr", "std")
    for tag in ("F ", "F ", "F ", "P ", "F", "P", "F:x ", " ", "X ")
]
cri = st.builds(lambda begin, text: (begin + text).encode(), st.sampled_from(_CRI), texts)
raw = st.one_of(
    texts.map(str.encode),
    st.binary(max_size=20).map(lambda b: b.replace(b"\n", b"")),
    st.just(b'{"log":"docker warn\\n","stream":"stdout","time":"2026-11-21T10:44:28.1Z"}'),
    st.just(b"2026-11-21T10:44:28.123456789Z stdout F bad \xff\xc3 utf8 error"),
)
docker = st.builds(
    lambda t, s, b, extra: json.dumps({"log": b, "stream": s, "time": t, **extra}, ensure_ascii=False).encode("utf-8", "replace"),
    st.one_of(times, times, st.just("2026-11-21T10:44:28,5Z"), st.just("2026-11-21T10:44:28.1234567891Z"), st.just(5)),
    st.sampled_from(["stdout", "stderr", "other"]),
    st.one_of(texts, st.none(), st.just({"a": 1}), st.just("x\ud800")),
    st.sampled_from([{}, {}, {}, {"attrs": {"tag": "x"}}, {"log.iostream": 1}]),
)
odd = st.sampled_from(
    [
        b'{"log":"a","log":"b","stream":"stdout","time":"2026-11-21T10:44:28Z"}',
        b"{}",
        b"{",
        b'{"log":NaN}',
        b"[]",
        b' {"log":"a","stream":"stdout","time":"2026-11-21T10:44:28Z"}',
        b'{"log":' * 300,
        b'{"log":"a\\n","stream":"stdout","time":"2026-11-21T10:44:28Z"} ',
    ]
)
_GOOD = [
    f"{time} {stream} F "
    for time in ("2026-11-21T10:44:28.123456789Z", "2026-11-21T10:44:28.000000000Z", "2026-11-21T10:44:29.000000001Z")
    for stream in ("stdout", "stderr")
]


def _good(chosen: bytes) -> bytes:
    """The beginning by the first byte, the words by the others."""
    return (_GOOD[chosen[0] % len(_GOOD)] + " ".join([WORDS[b % len(WORDS)] for b in chosen[1:]])).encode()


good = st.binary(min_size=1, max_size=6).map(_good)
good_crio = good.map(lambda line: line.replace(b"Z std", b"-10:00 std"))
lines = st.one_of(good, good, good, cri, raw, docker, odd)
docker_files = st.lists(st.one_of(docker, docker, docker, odd, cri), min_size=1, max_size=12)
chunks = st.lists(
    st.one_of(
        st.lists(lines, min_size=1, max_size=12),
        st.lists(good, min_size=1, max_size=12),
        st.lists(st.one_of(good_crio, good_crio, cri), min_size=1, max_size=12),
        docker_files,
    ).map(lambda ls: b"\n".join(ls) + b"\n"),
    min_size=1,
    max_size=4,
)


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
