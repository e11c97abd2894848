"""Reasons are a closed list: in the code, in the ledger, and in the page that users read."""

from __future__ import annotations

import ast
import logging

import pytest

from kofagent.telemetry import reasons
from kofagent.telemetry.ledger import Ledger
from kofagent.telemetry.refused import Refused
from kofagent.telemetry.signal import Signal
from tests.rooms import ROOT, files, nodes, tree_of

AT = {"Refused": 0, "reject": 0, "drop": 0, "_drop": 0, "_dropped": 1, "dropped": 2, "give_up": 1, "lost": 1, "checked": 0}
"""Functions that are given a reason, and which of their positional arguments it is."""


def literals(node: ast.expr) -> list[str]:
    """The texts an expression can be; what varies in an f-string is an example of its family."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return [node.value]
    if isinstance(node, ast.IfExp):
        return literals(node.body) + literals(node.orelse)
    if isinstance(node, ast.JoinedStr):
        examples = {"http ": "503", "grpc ": "UNAVAILABLE", "operator/": "x"}
        first = str(node.values[0].value) if isinstance(node.values[0], ast.Constant) else ""
        return [f"{first}{examples.get(first, '?')}"] if len(node.values) == 2 else [ast.unparse(node)]
    return []


def reasons_in(tree: ast.Module) -> list[tuple[int, str]]:
    """(line, reason) of every literal reason in a source."""
    found = []
    for node in nodes(tree):
        if not isinstance(node, ast.Call):
            continue
        name = node.func.attr if isinstance(node.func, ast.Attribute) else node.func.id if isinstance(node.func, ast.Name) else ""
        at = AT.get(name)
        if name == "dropped" and isinstance(node.func, ast.Attribute) and len(node.args) == 2:
            at = 0  # the operators' `run.dropped(reason, n)`
        if at is not None and len(node.args) > at:
            found += [(node.lineno, reason) for reason in literals(node.args[at])]
    return found


def test_every_reason_in_the_code_is_in_the_list() -> None:
    found = [(path, line, reason) for path in files(ROOT) for line, reason in reasons_in(tree_of(path))]
    assert [f"{path}:{line}: {reason!r}" for path, line, reason in found if not reasons.known(reason)] == []
    assert len(found) > 40, "the search finds what it is meant for"


@pytest.mark.parametrize(
    "source",
    [
        'Refused("no idea")',
        'self._drop(f"refused: {x}", 1)',
        'ledger.dropped(id, signal, "a" if b else "malformed", n)',
        'Refused(f"{x}")',
    ],
)
def test_the_search_can_fail(source: str) -> None:
    assert not all(reasons.known(reason) for _, reason in reasons_in(ast.parse(source)))


@pytest.mark.parametrize("reason", ["malformed", "http 413", "grpc DEADLINE_EXCEEDED", "operator/parse a\nline"])
def test_known(reason: str) -> None:
    assert reasons.known(reason)


@pytest.mark.parametrize("reason", ["", "Malformed", "http", "http 5000", "http abc", "grpc 14", "operator/", "malformed "])
def test_unknown(reason: str) -> None:
    assert not reasons.known(reason)


def test_an_unlisted_reason_is_counted_and_logged_once(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.undo()  # what production does
    monkeypatch.setattr(reasons, "_unlisted", set())
    ledger = Ledger()
    with caplog.at_level(logging.ERROR):
        ledger.dropped("a", Signal.LOGS, "out of luck", 2)
        ledger.dropped("a", Signal.LOGS, "out of luck", 1)
        assert Refused("out of luck").reason == "out of luck"
        assert len(caplog.records) == 1 and "out of luck" in caplog.text
        for i in range(1000):
            Refused(f"out of luck {i}")
        assert len(caplog.records) == 100, "a reason with data in it does not fill the memory"
    assert ledger.total("kofagent_dropped_items_total", component="a", signal="logs", reason="out of luck") == 3
