"""The page of all functions, made of the registry: signature, what it does, an example and its result."""

from __future__ import annotations

from typing import Any

from kofagent.ottl import examples, show
from kofagent.ottl.condition import parse_statement
from kofagent.ottl.env import Env
from kofagent.ottl.errors import OttlError
from kofagent.ottl.evaluate import Builder
from kofagent.ottl.functions import CONVERTERS, EDITORS
from kofagent.ottl.functions.core import MISSING, Function, Parameter
from kofagent.ottl.items import items
from kofagent.ottl.messages import read_request
from kofagent.ottl.parser import Parser

_WORDS = {
    "A": "any", "E": "element", "S": "string", "I": "int", "F": "double", "B": "bool", "M": "map", "L": "list", "T": "time",
    "D": "duration", "S~": "string-like", "I~": "int-like", "F~": "double-like", "B~": "bool-like", "Y~": "bytes-like",
    "M#": "literal map", "R": "regexp", "G": "glob", "P": "path", "M!": "path of a map", "K!": "path of a map",
    "L!": "path of a list", "fn": "function name", '"s"': "literal string", "#i": "literal int", "#f": "literal double",
    "#b": "literal bool",
}  # fmt: skip
_HEAD = """\
# Functions of the transformation language

Made from the registry by `kofagent components --docs`. `transform`, `filter` and `routing` use them; `kofagent ottl` tries them
out. Arguments are given by position or by name; one with `?` or a default may be left out. "Like" arguments are converted, others
must have the type: any other value is an error when the statement is run. "Literal" ones cannot be paths. Patterns are RE2
expressions and globs. The examples are those of a log record, a span or a metric, and a test runs them; editors show what they
change. In a configuration a `$` is written `$$`.
"""


def page() -> str:
    """The page in Markdown."""
    out = [_HEAD]
    for title, table, given in (("Editors", EDITORS, examples.EDITORS), ("Converters", CONVERTERS, examples.CONVERTERS)):
        out.append(f"\n## {title}\n\n| function | what it does | example | gives |\n|---|---|---|---|\n")
        for name in sorted(table, key=str.lower):
            function = table[name]
            what = (function.call.__doc__ or "").strip().partition("\n")[0]
            if function.contexts:
                what += f" Only {', '.join(sorted(function.contexts))}."
            row = (_code(signature(function)), what, _code(given[name]), _code(result(name)))
            out.append(f"| {' | '.join(row)} |\n")
    return "".join(out)


def _code(text: str) -> str:
    """Code in a cell of a table."""
    text = text.replace("|", "\\|").replace("\n", "\\n")
    return f"`` {text} ``" if "`" in text else f"`{text}`"


def signature(function: Function) -> str:
    """`Name(argument: type, argument: type = default)`."""
    return f"{function.name}({', '.join(map(_parameter, function.parameters))})"


def _parameter(parameter: Parameter) -> str:
    kind = parameter.kind
    word = f"list of {_WORDS[kind[1:-1]]}s" if kind[0] == "[" else _WORDS[kind]
    if not parameter.optional:
        return f"{parameter.name}: {word}"
    default = parameter.default
    return (
        f"{parameter.name}?: {word}"
        if default is None or default is MISSING
        else f"{parameter.name}: {word} = {show.shown(default)}"
    )


def item(name: str) -> tuple[Env, str]:
    """What the example of a function is run on, and its context."""
    function = EDITORS.get(name) or CONVERTERS[name]
    context = next(each for each in ("log", "span", "metric", "datapoint") if not function.contexts or each in function.contexts)
    signal = {"log": "logs", "span": "traces"}.get(context, "metrics")
    request = read_request(signal, b"")
    scope: Any = getattr(request, request.DESCRIPTOR.fields[0].name).add()
    scope = getattr(scope, scope.DESCRIPTOR.fields[1].name).add()
    if context == "log":
        record = scope.log_records.add(time_unix_nano=1700000000 * 10**9, severity_text="INFO")
        record.body.string_value = "GET /items/7 took 12 ms"
        record.attributes.add(key="http.method").value.string_value = "GET"
        record.attributes.add(key="status").value.int_value = 503
        for tag in ("a", "b"):
            if len(record.attributes) < 3:
                record.attributes.add(key="tags")
            record.attributes[2].value.array_value.values.add().string_value = tag
    elif context == "span":
        span = scope.spans.add(name="GET /items/7", kind=2)
        for key, value in (("http.request.method", "GET"), ("http.route", "/items/{id}")):
            span.attributes.add(key=key).value.string_value = value
    else:
        _metric(scope.metrics.add(name="requests", unit="1"), examples.KINDS.get(name, "sum"))
    return next(items(context, request)), context


def _metric(metric: Any, kind: str) -> None:
    data = getattr(metric, kind)
    if kind not in ("gauge", "summary"):
        data.aggregation_temporality = 2
    for method in ("GET", "PUT"):
        point = data.data_points.add(time_unix_nano=1700000000 * 10**9)
        point.attributes.add(key="http.method").value.string_value = method
        if kind in ("gauge", "sum"):
            point.as_int = 3
            continue
        point.count, point.sum = 4, 10.0
        if kind == "histogram":
            point.bucket_counts.extend([1, 2, 1])
            point.explicit_bounds.extend([1.0, 5.0])
        elif kind == "exponential_histogram":
            point.positive.bucket_counts.extend([1, 2, 1])
        else:
            point.quantile_values.add(quantile=0.5, value=2.0)


def result(name: str) -> str:
    """What the example of a function gives, or changes."""
    env, context = item(name)
    if name in CONVERTERS:
        text = examples.CONVERTERS[name]
        builder = Builder(context, user="conditions" if "conditions" in CONVERTERS[name].where else "statements")
        try:
            return show.shown(builder.value(Parser(text).value())(env))
        except OttlError:
            return show.shown(builder.condition(Parser(text).condition())(env))
    statement = parse_statement(examples.EDITORS[name].replace("$$", "$"), context)
    before = _lines(env, context)
    statement.apply(env)
    after = _lines(env, context)
    own = context + "."
    changed = [
        f"{path.removeprefix(own)} = {after.get(path, 'nil')}"
        for path in dict.fromkeys((*before, *after))
        if before.get(path) != after.get(path)
    ]
    return "; ".join(changed)


def _lines(env: Env, context: str) -> dict[str, str]:
    """The item, with all metrics and points of its scope."""
    found = show.lines(env, context)
    for metric in getattr(env.scope_entry, "metrics", ())[1:]:
        found[f"new metric {metric.name}"] = str(metric.WhichOneof("data"))
    if context in ("metric", "datapoint"):
        kind = env.metric.WhichOneof("data")
        for i, point in enumerate(getattr(env.metric, kind).data_points):
            for path, value in show.message_lines(f"point {i}", point).items():
                found[path] = value
    return found
