"""The compiled chain and the plain one make the same records and the same counts, for any operators and any lines.

Records are decoded by Google's protobuf, so this also holds our bytes against an independent reader.
"""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kofagent.operators import compile as compile_module
from kofagent.operators.chain import Chain
from kofagent.operators.compile import MAX_OUTCOMES
from tests.operators.kof_chain import KOF_OPERATORS, LEVEL_REGEX, PATH_REGEX
from tests.operators.streams import LOG, PATH, chunks, decoded, outcome
from tests.support.examples import examples


@given(chunks=chunks)
@settings(max_examples=examples(150), deadline=None)
def test_kof(chunks: list[bytes]) -> None:
    assert outcome(KOF_OPERATORS, chunks, compiled=True, shape="outcomes") == outcome(KOF_OPERATORS, chunks, compiled=False)


fields = st.sampled_from(
    [
        "attributes.a",
        "attributes.level",
        'attributes["log.iostream"]',
        "attributes.logtag",
        "resource.r",
        "attributes.n.x",
        "resource.host",
        'attributes["log.file.path"]',
        "body",
        "body.k",
    ]
)
targets = st.sampled_from(["attributes.a", "attributes.b", "attributes.n", "resource.r", "attributes.level", "attributes.n.x"])
modes = st.sampled_from(["send", "send_quiet", "drop", "drop_quiet"])
conditions = st.sampled_from(
    [
        'body matches "(?i)err(or)?"',
        'body contains "info"',
        'attributes.level == "error"',
        '"level" in attributes',
        "true",
        'body startsWith "x" or attributes.a == "1"',
        'not (body endsWith "ok")',
        'attributes["log.iostream"] == "stdout"',
        'body == ""',
        "len(body) > 10",
        "attributes.n.x == 1",
        'body matches "^\\\\S+$"',
        'attributes.static == "1" and body != "x"',
        "body.k == 1",
        'resource.host startsWith "h"',
        'attributes.level matches "^(?i)e"',
        "body < 3",
    ]
)
patterns = st.sampled_from(
    [
        r"(?i)(?P<level>error|warn(?:ing)?|info|skip)",
        r"(?P<level>[a-z]{1,3})(?P<a>\d{2})?",
        r"^(?P<level>\S+) (?P<b>.*)$",
        r"(?P<level>fail(?:ed)?)$",
        r"(?i)(?P<level>[EFDWI]\d{4})",
        r"(?P<a>x)|(?P<b>k)",
        r"(?i)\b(?P<level>s|k)\b",
        r"(?P<level>\bok\b)",
        r"(?P<level>e.*?r)",
        r"token=(?P<token>\w+)",
    ]
)
operator = st.one_of(
    st.builds(
        lambda p, f, m: {"type": "regex_parser", "regex": p, "parse_from": f, "on_error": m},
        patterns,
        st.sampled_from(["body", "body", "attributes.level"]),
        modes,
    ),
    st.builds(lambda f, m: {"type": "move", "from": f, "to": "attributes.moved", "on_error": m}, fields, modes),
    st.builds(lambda f, t: {"type": "copy", "from": f, "to": t}, fields, targets),
    st.builds(lambda t: {"type": "add", "field": t, "value": "added"}, targets),
    st.builds(lambda t: {"type": "add", "field": t, "value": 'EXPR(attributes.level + "!")'}, targets),
    st.builds(lambda t: {"type": "add", "field": t, "value": {"x": 1, "y": [1.5, None, True]}}, targets),
    st.builds(lambda f, m: {"type": "remove", "field": f, "on_error": m}, fields, modes),
    st.builds(lambda: {"type": "severity_parser", "parse_from": "attributes.level", "mapping": {"fatal": ["panic", "2xx"]}}),
    st.builds(lambda e: {"type": "filter", "expr": e}, conditions),
    st.builds(lambda: {"type": "noop"}),
    st.builds(lambda: {"type": "json_parser", "on_error": "send_quiet"}),
    st.builds(lambda f: {"type": "retain", "fields": [f]}, targets),
    st.builds(lambda: {"type": "scope_name_parser", "parse_from": "attributes.level", "on_error": "send_quiet"}),
    st.builds(lambda e: {"type": "recombine", "combine_field": "body", "is_last_entry": e}, conditions),
    st.builds(
        lambda e: {"type": "router", "routes": [{"expr": e, "output": "end", "attributes": {"r": "x"}}], "default": ["end"]},
        conditions,
    ),
)


def _with_condition(op: dict[str, Any], condition: str | None) -> dict[str, Any]:
    return op if condition is None or op["type"] in ("filter", "router") else {**op, "if": condition}


chains = st.tuples(
    st.sampled_from(
        [
            [],
            [{"type": "container"}],
            [{"type": "container", "format": "containerd", "on_error": "drop"}],
            [{"type": "container", "format": "docker", "on_error": "drop"}],
            [{"type": "container", "format": "crio", "add_metadata_from_filepath": False}],
        ]
    ),
    st.lists(st.builds(_with_condition, operator, st.one_of(st.none(), st.none(), conditions)), max_size=5),
).map(lambda pair: [*pair[0], *pair[1], {"type": "noop", "id": "end"}])


@given(operators=chains, chunks=chunks, path=st.sampled_from([PATH, PATH, "/var/log/x.log"]))
@settings(max_examples=examples(300), deadline=None)
def test_any_chain(operators: list[dict[str, Any]], chunks: list[bytes], path: str) -> None:
    assert outcome(operators, chunks, compiled=True, path=path) == outcome(operators, chunks, compiled=False, path=path)


@given(chunks=chunks)
@settings(max_examples=examples(60), deadline=None)
def test_kof_with_re2(chunks: list[bytes]) -> None:
    """The other engine, which a file gets where many lines do not match."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compile_module, "ADAPT_AFTER", -1)
        patch.setattr(compile_module, "RE2_FROM", -1)
        got = outcome(KOF_OPERATORS, [b"\n", *chunks], compiled=True)
    assert got == outcome(KOF_OPERATORS, [b"\n", *chunks], compiled=False)


def test_bodies_around_varint_lengths() -> None:
    sizes = [0, 1, 126, 127, 128, 129, 250, 16381, 16382, 16383, 16384, 16385, 70000]
    chunk = b"".join([b"2026-11-21T10:44:28.123456789Z stdout F " + b"x" * n + b"\n" for n in sizes])
    assert outcome(KOF_OPERATORS, [chunk], compiled=True) == outcome(KOF_OPERATORS, [chunk], compiled=False)


@pytest.mark.parametrize("container", [True, False])
def test_too_many_distinct_words(container: bool) -> None:
    """A file whose words differ too much goes on operator by operator, with the same records."""
    operators = [*([{"type": "container"}] if container else []), {"type": "regex_parser", "regex": r"(?P<n>\d+)"}]
    lines = [f"number {i} {i % 7}" for i in range(MAX_OUTCOMES + 50)]
    chunk = "".join([(f"2026-11-21T10:44:28.123456789Z stdout F {x}" if container else x) + "\n" for x in lines]).encode()
    want = outcome(operators, [chunk, chunk], compiled=False)
    assert outcome(operators, [chunk, chunk], compiled=True) == want
    assert len(want[0]) == 2 * len(lines)


def test_format_is_found_after_other_lines() -> None:
    """What was remembered for one format is not used for another."""
    chunks = [
        b"nonsense\n2026-11-21T10:44:28.123456789Z stdout F error\n",
        b'{"log":"error","stream":"stdout","time":"2026-11-21T10:44:28.1Z"}\n' * 3,
    ]
    for operators in (KOF_OPERATORS, [{"type": "container"}, {"type": "json_parser", "on_error": "send_quiet"}]):
        assert outcome(operators, chunks, compiled=True) == outcome(operators, chunks, compiled=False)


def test_last_line_without_newline() -> None:
    assert outcome(KOF_OPERATORS, [b"2026-11-21T10:44:28.1Z stdout F a\nrest"], compiled=True) == outcome(
        KOF_OPERATORS, [b"2026-11-21T10:44:28.1Z stdout F a\nrest"], compiled=False
    )


@given(text=st.text(alphabet="eErRoOsSkK\u017f\u212ainfoINFO1234 wW\n\u00e9", max_size=20), engine=st.sampled_from(["re", "re2"]))
@settings(max_examples=examples(300), deadline=None)
def test_engines(text: str, engine: str) -> None:
    """Python's re and RE2 find the same level."""
    from kofagent.operators.regex import pattern
    from kofagent.operators.simple import simple_search

    found = pattern(r"(?i)(?P<level>err(?:or)?|[EFDWI]\d{4}|sk|info|s[ks]|warn)")
    simple = simple_search(found)
    assert simple is not None and simple.whole
    data = text.encode()
    spans = found.spans(data)
    match = simple.search(data.lower())
    assert (None if match is None else match.span()) == (None if spans is None else spans[0])
    bare = pattern(simple.re2_source).spans(data)
    assert bare == (None if spans is None else [spans[0]])


@pytest.mark.parametrize(
    ("source", "simple"),
    [
        (LEVEL_REGEX, True),
        (r"(?i)(?P<log_level>[EFDWI])\d{4}", True),
        (PATH_REGEX, False),
        (r"(?P<time>\d{4}-\d{2}-\d{2} \d{2}:\d{2}:\d{2})", True),
        (r"(?P<id>\w{1,30})", True),
        (r"(?P<m>(?:\w{1,20}-?){1,8}!)", False),
        (r"(?P<h>(?:[a-z0-9]{1,20}\.?){1,5}:[0-9]{1,5})", False),
        (r"(?P<l>(?:a|a){10}b)", False),
        (r"(?P<l>a?a?a?a?a?a?a?a?a?a?b)", False),
        (r"(?P<l>[ab]{1,30}[ab]{1,30}c)", False),
    ],
)
def test_patterns_whose_work_multiplies_stay_with_re2(source: str, simple: bool) -> None:
    from kofagent.operators.regex import pattern
    from kofagent.operators.simple import simple_search

    assert (simple_search(pattern(source)) is not None) is simple


def test_closed_stream_forgets() -> None:
    chain = Chain(KOF_OPERATORS, dropped=lambda r, n: None, filtered=lambda r, n: None, log=LOG)
    stream = chain.open({"log.file.path": PATH})
    line = b"2026-11-21T10:44:28.123456789Z stdout F error\n"
    stream.feed_chunk(line + b"2026-11-21T10:44:28.123456789Z stdout P part\n", 1)
    assert stream.held == 1
    stream.close()
    assert stream.held == 0 and stream.take() == (b"", 0)
    stream.feed_chunk(line, 1)
    assert len(decoded(*stream.take())) == 1


@pytest.mark.parametrize("entries", [["a\nb", "c"], [b"x", "y\u00e9"], ["\ud800"], []])
def test_entries_already_split(entries: list[Any]) -> None:
    """Entries with newlines in them, of text or bytes, with attributes of their own or without."""
    for extra in (None, [{"n": i} for i in range(len(entries))]):
        got = []
        for compiled in (True, False):
            chain = Chain(
                [{"type": "regex_parser", "regex": "(?P<l>a|x|$)"}],
                dropped=lambda r, n: None,
                filtered=lambda r, n: None,
                log=LOG,
                compiled=compiled,
            )
            stream = chain.open({})
            stream.feed_entries(entries, 1, extra)
            got.append(decoded(*stream.take()))
        assert got[0] == got[1] and len(got[0]) == len(entries)
