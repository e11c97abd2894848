"""No line breaks an operator: what comes in goes out, is dropped with a count, or is filtered with a count."""

from __future__ import annotations

import logging
from collections import Counter
from typing import Any

import pytest
from hypothesis import given, settings
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest

from kofagent.config.errors import ConfigErrors
from kofagent.operators.catalog import OPERATORS
from kofagent.operators.chain import Chain
from tests.operators.configurations import configurations
from tests.operators.streams import loose_lines
from tests.support.examples import examples


@pytest.mark.slow
@pytest.mark.parametrize("kind", sorted(OPERATORS))
@pytest.mark.parametrize("structured", [False, True])
@pytest.mark.parametrize("mode", ["send_quiet", "drop"])
def test_nothing_is_lost_uncounted(kind: str, structured: bool, mode: str) -> None:
    first = [{"type": "json_parser", "parse_to": "body", "on_error": "send_quiet"}] if structured else []
    log = logging.getLogger("test.operators")
    log.setLevel(logging.CRITICAL)

    @given(loose_lines, configurations(kind))
    @settings(max_examples=examples(25), deadline=None)
    def check(given_lines: list[bytes], options: dict[str, Any]) -> None:
        base = {**options, "id": "it"}
        if "on_error" in OPERATORS[kind].Config.model_fields:
            base["on_error"] = mode
        counts: Counter[str] = Counter()
        chain = Chain(
            [*first, base, {"type": "noop", "id": "end"}],
            dropped=lambda r, n: counts.update({r: n}),
            filtered=lambda r, n: counts.update({r: n}),
            log=log,
        )
        stream = chain.open({"log.file.path": "/var/log/pods/n_p_u/c/0.log"})
        for line in given_lines:
            stream.feed_chunk(line + b"\n", 1)
        stream.flush(1, force=True)
        payload, n = stream.take()
        request = ExportLogsServiceRequest.FromString(payload)
        assert sum(len(s.log_records) for g in request.resource_logs for s in g.scope_logs) == n
        if kind == "router":  # a route may have several outputs
            assert n + counts.total() >= len(given_lines)
        elif kind not in ("recombine", "container"):
            assert n + counts.total() == len(given_lines)

    check()


def test_attributes_of_the_receiver_may_be_expressions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KOF_TEST_NODE", "n1")

    def attributes(**given: str) -> Any:
        chain = Chain([], attributes=given, dropped=lambda r, n: None, filtered=lambda r, n: None, log=logging.getLogger("t"))
        stream = chain.open({"name": "f"})
        stream.feed_chunk(b"line\n", 1)
        (record,) = ExportLogsServiceRequest.FromString(stream.take()[0]).resource_logs[0].scope_logs[0].log_records
        return {a.key: a.value.string_value for a in record.attributes}

    assert attributes(a='x-EXPR(env("KOF_TEST_NODE"))') == {"name": "f", "a": "x-n1"}
    assert attributes(a="EXPR(body)-EXPR(attributes.name)") == {"name": "f", "a": "line-f"}
    with pytest.raises(ConfigErrors, match=r"attributes.a: expression"):
        attributes(a="EXPR(1 +)")
    with pytest.raises(ConfigErrors, match=r"the value of EXPR\(...\) is not a string"):
        attributes(a="EXPR(1)")


def test_explain_shows_no_value_of_a_user_in_code() -> None:
    chain = Chain(
        [{"type": "add", "field": 'attributes["x"]', "value": "'); import os #", "if": 'body contains "\\"; boom("'}],
        dropped=lambda r, n: None,
        filtered=lambda r, n: None,
        log=logging.getLogger("t"),
    )
    text = chain.explain()
    assert "def feed" in text and "import os" not in text and "boom" not in text


@pytest.mark.parametrize(
    "value",
    [
        "1 / 0",
        "-1 / 0",
        "0 / 0",
        "2 ** 5000",
        "[1, nil]",
        "{'a': 1 / 0}",
        "ceil(1 / 0)",
        "body[0:1 / 0]",
        "repeat('x', 1 / 0)",
        "sortBy([1, nil], #)",
        "first(5)",
        "split(1, 2)",
        "join([1])",
        "abs('x')",
    ],
)
def test_strange_values_of_expressions(value: str) -> None:
    """Infinities and wrong kinds end as a value or an error of the operator, in every place that reads them."""
    chain = Chain(
        [
            {"type": "add", "field": "attributes.v", "value": f"EXPR({value})", "on_error": "send_quiet"},
            {"type": "add", "field": "attributes.s", "value": "EXPR(string(attributes.v))", "on_error": "send_quiet"},
            {"type": "severity_parser", "parse_from": "attributes.v", "on_error": "send_quiet"},
            {
                "type": "time_parser",
                "parse_from": "attributes.v",
                "layout_type": "epoch",
                "layout": "s.ns",
                "on_error": "send_quiet",
            },
            {"type": "noop", "if": "attributes.v > 1 and int(attributes.v) in 1..3", "on_error": "send_quiet"},
            {"type": "noop", "if": "len(body) > 1 / 0", "on_error": "send_quiet"},
        ],
        dropped=lambda r, n: None,
        filtered=lambda r, n: None,
        log=logging.getLogger("test.operators"),
    )
    for compiled in (True, False):
        chain._compiled = compiled
        stream = chain.open({})
        stream.feed_chunk(b"line\nline\n", 1)
        payload, n = stream.take()
        assert n == 2
        ExportLogsServiceRequest.FromString(payload)
