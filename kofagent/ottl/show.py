"""The language for people: expressions as text, a condition with the value of each part, an item as lines of paths and values."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, NamedTuple

from kofagent.ottl import ast
from kofagent.ottl.env import VISIBLE, Env
from kofagent.ottl.errors import EvaluationError
from kofagent.ottl.evaluate import Builder
from kofagent.ottl.types import Duration, Own, SpanID, Time, TraceID, Whole, rfc3339
from kofagent.transform.anyvalue import attributes, jsonable, to_python

_FIELDS = {"as_int": "value_int", "as_double": "value_double"}
_EXEMPLAR_FIELDS = {"as_int": "int_value", "as_double": "double_value"}
_MAPS = ("attributes", "metadata", "filtered_attributes")
_INSIDE = {
    "span": ("events",),
    "metric": ("gauge", "sum", "histogram", "exponential_histogram", "summary"),
    "datapoint": ("exemplars",),
}


class Part(NamedTuple):
    """A part of a condition: how deep it is in it, its text and its value or what is wrong."""

    depth: int
    text: str
    value: str
    reached: bool
    """False where an earlier part has decided."""


def text_of(node: Any) -> str:
    """The expression as it could be written."""
    if isinstance(node, ast.Literal):
        if isinstance(node.value, bytes):
            return f"0x{node.value.hex()}"
        return "nil" if node.value is None else json.dumps(node.value, ensure_ascii=False)
    if isinstance(node, ast.Enum | ast.FunctionName):
        return node.name
    if isinstance(node, ast.Path):
        return ".".join(field.name + _keys(field.keys) for field in node.fields)
    if isinstance(node, ast.Call):
        arguments = ", ".join((f"{a.name}=" if a.name else "") + text_of(a.value) for a in node.arguments)
        return f"{node.name}({arguments}){_keys(node.keys)}"
    if isinstance(node, ast.ListNode):
        return f"[{', '.join(map(text_of, node.items))}]"
    if isinstance(node, ast.MapNode):
        return f"{{{', '.join(f'{json.dumps(key)}: {text_of(value)}' for key, value in node.items)}}}"
    if isinstance(node, ast.Sign):
        return f"{node.op}{_inner(node.operand)}"
    if isinstance(node, ast.Comparison):
        return f"{text_of(node.left)} {node.op} {text_of(node.right)}"
    if isinstance(node, ast.Arithmetic):
        return f"{_inner(node.left)} {node.op} {_inner(node.right)}"
    if isinstance(node, ast.Not):
        return f"not {_inner(node.operand)}"
    word = " and " if isinstance(node, ast.And) else " or "
    return word.join(map(_inner, node.operands))


def _keys(keys: tuple[Any, ...]) -> str:
    return "".join(f"[{text_of(key)}]" for key in keys)


def _inner(node: Any) -> str:
    text = text_of(node)
    return f"({text})" if isinstance(node, ast.And | ast.Or | ast.Arithmetic | ast.Not) else text


def shown(value: Any) -> str:
    """A value as it is written in the language, as far as it can be."""
    if value is None:
        return "nil"
    if isinstance(value, bytes):
        return f"0x{value.hex()}"
    if isinstance(value, Time):
        return rfc3339(value.ns)
    if isinstance(value, Duration):
        return f"{value.ns} ns"
    if isinstance(value, TraceID | SpanID):
        return value.data.hex()
    if isinstance(value, Whole):
        return f"the {value.kind}"
    if isinstance(value, Own) and value.kind not in ("integers", "numbers"):
        return f"{len(value)} {value.kind}"
    return json.dumps(jsonable(value) if isinstance(value, dict | list) else value, ensure_ascii=False)


def parts(tree: Any, env: Env, builder: Builder) -> Iterator[Part]:
    """The condition and all its parts, from the outside in, each with its value on the item."""
    yield from _parts(tree, env, builder, 0, True)


def _parts(node: Any, env: Env, builder: Builder, depth: int, reached: bool) -> Iterator[Part]:
    yield Part(depth, text_of(node), _value(lambda: builder.condition(node)(env)), reached)
    if isinstance(node, ast.And | ast.Or):
        decides = isinstance(node, ast.Or)
        for operand in node.operands:
            yield from _parts(operand, env, builder, depth + 1, reached)
            try:
                reached = reached and builder.condition(operand)(env) is not decides
            except EvaluationError:
                reached = False
    elif isinstance(node, ast.Not):
        yield from _parts(node.operand, env, builder, depth + 1, reached)
    elif isinstance(node, ast.Comparison):
        for side in (node.left, node.right):
            yield from _values(side, env, builder, depth + 1, reached)
    elif isinstance(node, ast.Call):
        for argument in node.arguments:
            yield from _values(argument.value, env, builder, depth + 1, reached)


def _values(node: Any, env: Env, builder: Builder, depth: int, reached: bool) -> Iterator[Part]:
    """The value, and those that it is made of; literals say themselves."""
    if isinstance(node, ast.Path | ast.Call | ast.Arithmetic | ast.Sign | ast.Enum):
        yield Part(depth, text_of(node), _value(lambda: builder.value(node)(env)), reached)
    inner: tuple[Any, ...] = ()
    if isinstance(node, ast.Call):
        inner = tuple(argument.value for argument in node.arguments)
    elif isinstance(node, ast.Arithmetic):
        inner = node.left, node.right
    elif isinstance(node, ast.ListNode):
        inner = node.items
    elif isinstance(node, ast.Sign):
        inner = (node.operand,)
    for each in inner:
        yield from _values(each, env, builder, depth + (not isinstance(node, ast.ListNode)), reached)


def _value(read: Any) -> str:
    try:
        return shown(read())
    except EvaluationError as error:
        return f"error: {error}"


def lines(env: Env, context: str) -> dict[str, str]:
    """The item and what is around it: path -> value, what is not set left out."""
    found: dict[str, str] = {}
    for name in VISIBLE[context]:
        message = getattr(env, name)
        if message is not None:
            found |= _message(name, message, _INSIDE.get(name, ()), _EXEMPLAR_FIELDS if name == "exemplar" else _FIELDS)
            if name == "metric":
                found["metric.type"] = json.dumps(message.WhichOneof("data") or "none")
    for name, entry in (("resource", env.resource_entry), ("scope", env.scope_entry)):
        if entry is not None and entry.schema_url:
            found[f"{name}.schema_url"] = json.dumps(entry.schema_url, ensure_ascii=False)
    return found


def message_lines(path: str, message: Any) -> dict[str, str]:
    """A message as lines of paths and values."""
    return _message(path, message, (), _FIELDS)


def _message(path: str, message: Any, without: tuple[str, ...], names: dict[str, str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for field, value in message.ListFields():
        at = f"{path}.{names.get(field.name, field.name)}"
        if field.name in without:
            if field.name in _INSIDE["metric"] and path == "metric":
                found |= _message(path, value, ("data_points",), names)
        elif field.name in _MAPS:
            found |= {f"{at}[{json.dumps(key, ensure_ascii=False)}]": shown(each) for key, each in attributes(value).items()}
        elif field.message_type is not None and field.message_type.name == "AnyValue":
            found[at] = shown(to_python(value))
        elif field.message_type is None:
            plain = list(value) if field.is_repeated else value
            found[at] = plain.hex() if isinstance(plain, bytes) else shown(plain)
        elif field.is_repeated:
            found[at] = f"{len(value)}"
        else:
            found |= _message(at, value, (), names)
    return found
