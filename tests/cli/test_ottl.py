"""`kofagent ottl`: what statements change, and why a condition is true or not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from kofagent.cli.main import main

_RECORD = {
    "severityNumber": 9,
    "severityText": "INFO",
    "body": {"stringValue": "INFO a"},
    "attributes": [{"key": "component", "value": {"stringValue": "x"}}],
}


@pytest.fixture
def ottl(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Any:
    """Runs the command; (exit code, lines printed, lines of errors)."""

    def run(item: Any, *arguments: str) -> tuple[int, list[str], list[str]]:
        file = tmp_path / "item.json"
        file.write_text(item if isinstance(item, str) else json.dumps(item))
        code = main(["ottl", "--input", str(file), *arguments])
        out, err = capsys.readouterr()
        return code, [" ".join(line.split()) for line in out.splitlines()], err.splitlines()

    return run


def test_before_and_after(ottl: Any) -> None:
    set_level = 'set(attributes["level"], severity_text) where severity_number == SEVERITY_NUMBER_INFO'
    code, out, _ = ottl(_RECORD, "--context", "log", set_level, 'delete_key(attributes, "component")', 'set(cache["x"], body)')
    assert code == 0
    assert out == [
        "log 1",
        set_level,
        "severity_number == SEVERITY_NUMBER_INFO true",
        "severity_number 9",
        "SEVERITY_NUMBER_INFO 9",
        '+ log.attributes["level"] "INFO"',
        'delete_key(attributes, "component")',
        '- log.attributes["component"] "x"',
        'set(cache["x"], body)',
        "nothing changed",
        'cache: {"x": "INFO a"}',
    ]


def test_a_condition_with_the_value_of_each_part(ottl: Any) -> None:
    whole = 'IsMap(log.body) or (log.attributes["a"] == nil and Len(log.body) / 0 > 1) or log.flags == 1'
    code, out, _ = ottl({"resourceLogs": [{"scopeLogs": [{"logRecords": [_RECORD]}]}]}, whole)
    assert code == 0
    assert out == [
        "log 1",
        f"{whole} error: division by zero",
        "IsMap(log.body) false",
        'log.body "INFO a"',
        'log.attributes["a"] == nil and Len(log.body) / 0 > 1 error: division by zero',
        'log.attributes["a"] == nil true',
        'log.attributes["a"] nil',
        "Len(log.body) / 0 > 1 error: division by zero",
        "Len(log.body) / 0 error: division by zero",
        "Len(log.body) 6",
        'log.body "INFO a"',
        "log.flags == 1 false (not reached)",
        "log.flags 0 (not reached)",
    ]


@pytest.mark.parametrize(
    ("context", "item", "statement", "line"),
    [
        ("resource", {"attributes": []}, 'set(attributes["a"], 1)', '+ resource.attributes["a"] 1'),
        ("scope", {"name": "a"}, 'set(name, "b")', '+ scope.name "b"'),
        ("span", {"name": "a", "status": {"code": 2}}, "set(status.code, 1)", "+ span.status.code 1"),
        ("spanevent", {"name": "a"}, 'set(span.name, "b")', '+ span.name "b"'),
        ("metric", {"name": "a", "sum": {}}, 'set(name, "b")', '+ metric.name "b"'),
        ("datapoint", {"asInt": "3"}, "set(value_int, value_int + 1)", "+ datapoint.value_int 4"),
        ("datapoint", {"bucketCounts": ["3"], "count": "3"}, "set(count, 4)", "+ datapoint.count 4"),
        ("exemplar", {"asDouble": 3}, "set(double_value, 1.5)", "+ exemplar.double_value 1.5"),
    ],
)
def test_one_item_of_every_context(ottl: Any, context: str, item: Any, statement: str, line: str) -> None:
    code, out, _ = ottl(item, "--context", context, statement)
    assert code == 0
    assert out[0] == f"{context} 1"
    assert line in out


def test_what_is_wrong(ottl: Any) -> None:
    code, _, err = ottl(_RECORD, "--context", "log", "set(body, bdy)", 'IsMach(body, "x")')
    assert code == 1
    assert err == [
        "kofagent ottl: unknown path bdy in the log context; did you mean 'body'?",
        "    set(body, bdy)",
        "              ^",
        "unknown converter IsMach; did you mean 'IsMatch'?",
        '    IsMach(body, "x")',
        "    ^",
    ]
    assert ottl(_RECORD, "set(log.body, log.bdy)", 'set(log.body, "x)')[2][1::3] == [
        "    set(log.body, log.bdy)",
        '    set(log.body, "x)',
    ]
    assert "could not be run: a body that is string cannot be indexed" in ottl(_RECORD, 'set(log.body["a"], 1)')[1]
    for item in ("{", "[]", '{"resourceLogs": 1}', '{"body": 1}', '{"resourceSpans": []}'):
        code, out, err = ottl(item, "--context", "log", "set(body, 1)")
        assert code == 1, item
        assert not out
        assert len(err) == 1
    with pytest.raises(SystemExit):
        main(["ottl", "--context", "logs", "true"])
