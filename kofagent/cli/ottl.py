"""`kofagent ottl`: what statements make of a record, and why a condition is true or not."""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from kofagent.config.errors import Spot
from kofagent.ottl import (
    Condition,
    Env,
    EvaluationError,
    OttlError,
    Statement,
    infer_context,
    parse_condition,
    parse_statement,
    show,
)
from kofagent.ottl.evaluate import Builder
from kofagent.ottl.infer import PRIORITY
from kofagent.ottl.items import items
from kofagent.ottl.messages import read_request
from kofagent.wire import otlp_json
from kofagent.wire.foreign_json import read_json

_EDITOR = re.compile(r"\s*[a-z][a-z0-9_\s]*\(")
_WORDS = re.compile(r"\s*(?:not|true|false|nil)\b")
_WHOLE = {"resourceLogs": "logs", "resourceSpans": "traces", "resourceMetrics": "metrics"}
_NEAREST = {"span": "traces", "spanevent": "traces", "metric": "metrics", "datapoint": "metrics", "exemplar": "metrics"}
MAX_BYTES = 64 * 1024 * 1024


def main(arguments: argparse.Namespace) -> int:
    """0; 1 where the text is no expression, the input no record, or a statement could not be run."""
    try:
        context, qualified, parsed = _parsed(arguments.statement, arguments.context)
        signal, payload = _input(arguments.input, context)
        request = read_request(signal, otlp_json.to_protobuf(signal, json.dumps(payload).encode()))
    except _Wrong as wrong:
        print(f"kofagent ottl: {wrong}", file=sys.stderr)
        return 1
    except ValueError as error:
        print(f"kofagent ottl: the input is not OTLP JSON: {error}", file=sys.stderr)
        return 1
    good, count = True, 0
    for env in items(context, request):
        count += 1
        good = _item(env, context, qualified, parsed, count, arguments.all) and good
    if not count:
        print(f"kofagent ottl: the input has no {context}", file=sys.stderr)
    return 0 if good and count else 1


class _Wrong(Exception):
    """What to tell the user."""


def _parsed(texts: list[str], given: str | None) -> tuple[str, bool, list[Condition | Statement]]:
    """The context, whether it was inferred, and what was written. _Wrong with all errors."""
    context = given or _inferred(texts)
    wrong: list[str] = []
    found: list[Condition | Statement] = []
    for text in texts:
        parse = parse_statement if _is_statement(text) else parse_condition
        try:
            found.append(parse(text, context or _inferred([text]), qualified=given is None))
        except OttlError as error:
            wrong.append(f"{error.message}\n{Spot(text, error.column - 1)}")
        except _Wrong as error:
            wrong.append(str(error))
    if wrong:
        raise _Wrong("\n".join(wrong))
    if not context:
        raise _Wrong("the expressions name no context together; say which with --context")
    return context, given is None, found


def _is_statement(text: str) -> bool:
    return bool(_EDITOR.match(text)) and not _WORDS.match(text)


def _inferred(texts: list[str]) -> str:
    """The context that the paths name; empty where only one of several texts can say what is wrong. OttlError for one text."""
    statements = [text for text in texts if _is_statement(text)]
    try:
        return infer_context([text for text in texts if text not in statements], PRIORITY, statements=statements)
    except OttlError as error:
        if len(texts) > 1:
            return ""
        raise _Wrong(f"{error.message}\n{Spot(texts[0], error.column - 1)}") from None


def _input(file: str | None, context: str) -> tuple[str, Any]:
    """The signal and the JSON of a whole request."""
    try:
        if file is None:
            data = sys.stdin.buffer.read(MAX_BYTES + 1)
        else:
            with Path(file).open("rb") as handle:
                data = handle.read(MAX_BYTES + 1)
    except OSError as error:
        raise _Wrong(f"{file}: {error.strerror}") from None
    if len(data) > MAX_BYTES:
        raise _Wrong("the input is larger than 64 MiB")
    try:
        value = read_json(data)
    except ValueError as error:
        raise _Wrong(f"the input is not JSON: {error}") from None
    if not isinstance(value, dict):
        raise _Wrong("the input is no JSON object")
    for key, signal in _WHOLE.items():
        if key in value:
            return signal, value
    signal = _NEAREST.get(context, "logs")
    return signal, _around(context, signal, value)


def _around(context: str, signal: str, item: Any) -> Any:
    """A request of one item."""
    if context == "resource":
        return {"resourceLogs": [{"resource": item}]}
    if context == "scope":
        return {"resourceLogs": [{"scopeLogs": [{"scope": item}]}]}
    if context == "exemplar":
        item = {"exemplars": [item], "asDouble": 0}
    if context in ("datapoint", "exemplar"):
        kinds = {
            "quantileValues": "summary",
            "bucketCounts": "histogram",
            "scale": "exponentialHistogram",
            "positive": "exponentialHistogram",
        }
        kind = next((kinds[key] for key in kinds if key in item), "gauge")
        item = {"name": "metric", kind: {"dataPoints": [item]}}
    if context == "spanevent":
        item = {"name": "span", "events": [item]}
    outer, middle, inner = {
        "logs": ("resourceLogs", "scopeLogs", "logRecords"),
        "traces": ("resourceSpans", "scopeSpans", "spans"),
        "metrics": ("resourceMetrics", "scopeMetrics", "metrics"),
    }[signal]
    return {outer: [{middle: [{inner: [item]}]}]}


def _item(env: Env, context: str, qualified: bool, parsed: list[Condition | Statement], number: int, everything: bool) -> bool:
    """Prints what becomes of an item. Whether all could be run."""
    print(f"{context} {number}")
    good = True
    for each in parsed:
        tree = each.tree.where if isinstance(each, Statement) else each.tree
        if isinstance(each, Statement):
            print(f"  {' '.join(each.text.split())}")
        if tree is not None:
            for line in _condition(tree, env, context, qualified, "statements" if isinstance(each, Statement) else "conditions"):
                print(f"    {line}")
        if isinstance(each, Statement):
            before = show.lines(env, context), dict(env.cache)
            try:
                ran = each.test is None or each.test(env)
                if ran:
                    each.run(env)
            except EvaluationError as error:
                print(f"    could not be run: {error}")
                good = False
                continue
            for line in (
                _difference(before[0], show.lines(env, context), everything) if ran else ["not run: its condition is false"]
            ):
                print(f"    {line}")
            if env.cache != before[1]:
                print(f"    cache: {show.shown(env.cache)}")
    return good


def _condition(tree: Any, env: Env, context: str, qualified: bool, user: str) -> Iterator[str]:
    found = list(show.parts(tree, env, Builder(context, qualified=qualified, user=user)))
    width = min(max(len(part.text) + 2 * part.depth for part in found), 60)
    for part in found:
        text = "  " * part.depth + part.text
        yield f"{text:<{width}}  {part.value}" + ("" if part.reached else "  (not reached)")


def _difference(before: dict[str, str], after: dict[str, str], everything: bool) -> Iterator[str]:
    """The lines that have changed, or all."""
    width = min(max((len(path) for path in (*before, *after)), default=0), 50)
    changed = False
    for path in dict.fromkeys((*before, *after)):
        old, new = before.get(path), after.get(path)
        if old == new:
            if everything:
                yield f"  {path:<{width}} {old}"
            continue
        changed = True
        if old is not None:
            yield f"- {path:<{width}} {old}"
        if new is not None:
            yield f"+ {path:<{width}} {new}"
    if not changed:
        yield "nothing changed"
