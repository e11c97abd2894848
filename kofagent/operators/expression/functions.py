"""Functions of expressions: those of expr-lang's language definition that work on the values of an entry."""

from __future__ import annotations

import base64
import json
import math
import os
import time
from collections.abc import Callable
from typing import Any, Final

from kofagent.operators.expression.values import ExpressionError, boolean, equal, items, kind, number, text
from kofagent.operators.text import whole


def _length(value: Any) -> int:
    if isinstance(value, str | list | dict):
        # expr counts code points of text.
        return len(value)
    raise ExpressionError(f"{kind(value)} has no length")


def _int(value: Any) -> int:
    try:
        return int(text(value), 10) if isinstance(value, str) else int(number(value))
    except (ValueError, OverflowError):
        raise ExpressionError("int: not a number") from None


def _float(value: Any) -> float:
    try:
        return float(value if isinstance(value, str) else number(value))
    except ValueError:
        raise ExpressionError("float: not a number") from None


def _string(value: Any) -> str:
    if isinstance(value, str):
        return value
    if value is None:
        return "<nil>"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e21:
        return str(int(value))
    if isinstance(value, list):
        return "[" + " ".join([_string(v) for v in value]) + "]"
    if isinstance(value, dict):
        return "map[" + " ".join([f"{k}:{_string(v)}" for k, v in sorted(value.items())]) + "]"
    return str(value)


def _kind(value: Any) -> str:
    if value is None:
        return "nil"
    return {bool: "bool", int: "int", float: "float", str: "string", list: "array", dict: "map"}.get(type(value), "unknown")


def _from_json(value: Any) -> Any:
    try:
        return json.loads(text(value), parse_int=float)
    except (ValueError, RecursionError):
        raise ExpressionError("fromJSON: not JSON") from None


def _to_json(value: Any) -> str:
    try:
        return json.dumps(value, indent=2, ensure_ascii=False)
    except (TypeError, ValueError):
        raise ExpressionError("toJSON: not a value of JSON") from None


def _trim(value: Any, chars: Any = None) -> str:
    return text(value).strip(None if chars is None else text(chars))


def _split(value: Any, by: Any, most: Any = None) -> list[str]:
    if not text(by):
        return list(text(value))
    return text(value).split(text(by), -1 if most is None else int(number(most)) - 1)


def _split_after(value: Any, by: Any) -> list[str]:
    parts = text(value).split(text(by))
    return [p + by for p in parts[:-1]] + parts[-1:]


def _extreme(apply: Callable[[Any], Any]) -> Callable[..., Any]:
    def run(*args: Any) -> Any:
        found = args[0] if len(args) == 1 and isinstance(args[0], list) else list(args)
        return apply([number(v) for v in found]) if found else None

    return run


def _base64(value: Any) -> str:
    try:
        return base64.b64decode(text(value), validate=True).decode("utf-8", "replace")
    except ValueError:
        raise ExpressionError("fromBase64: not base64") from None


def _round(value: Any) -> float:
    v = float(number(value))
    return math.copysign(math.floor(abs(v) + 0.5), v)


def _get(value: Any, key: Any) -> Any:
    if isinstance(value, dict):
        return value.get(key) if isinstance(key, str) else None
    if isinstance(value, list) and isinstance(key, int) and -len(value) <= key < len(value):
        return value[key]
    return None


def _list(value: Any) -> list[Any]:
    if isinstance(value, list):
        return value
    raise ExpressionError(f"{kind(value)} where a list is needed")


def _map(value: Any) -> dict[str, Any]:
    if isinstance(value, dict):
        return value
    raise ExpressionError(f"{kind(value)} where a map is needed")


def _sorted(value: Any, order: Any = "asc") -> list[Any]:
    try:
        return sorted(_list(value), reverse=order == "desc")
    except TypeError:
        raise ExpressionError("sort: values of several kinds") from None


def _unique(value: Any) -> list[Any]:
    out: list[Any] = []
    for item in _list(value):
        if not any(equal(item, other) for other in out):
            out.append(item)
    return out


def _flatten(value: Any) -> list[Any]:
    out: list[Any] = []
    for item in _list(value):
        out.extend(_flatten(item) if isinstance(item, list) else [item])
    return out


def _mean(*args: Any) -> float:
    found = [number(v) for v in (args[0] if isinstance(args[0], list) else args)]
    return sum(found) / len(found) if found else 0.0


FUNCTIONS: Final[dict[str, tuple[int, int, Callable[..., Any]]]] = {
    "len": (1, 1, _length),
    "env": (1, 1, lambda name: os.environ.get(text(name), "")),
    "trim": (1, 2, _trim),
    "upper": (1, 1, lambda v: text(v).upper()),
    "lower": (1, 1, lambda v: text(v).lower()),
    "trimPrefix": (2, 2, lambda v, p: text(v).removeprefix(text(p))),
    "trimSuffix": (2, 2, lambda v, p: text(v).removesuffix(text(p))),
    "split": (2, 3, _split),
    "splitAfter": (2, 2, _split_after),
    "replace": (3, 4, lambda v, a, b, n=-1: text(v).replace(text(a), text(b), int(number(n)))),
    "repeat": (2, 2, lambda v, n: text(v) * min(int(number(n)), 1_000_000 // max(1, len(v)))),
    "indexOf": (2, 2, lambda v, s: text(v).find(text(s))),
    "lastIndexOf": (2, 2, lambda v, s: text(v).rfind(text(s))),
    "hasPrefix": (2, 2, lambda v, s: text(v).startswith(text(s))),
    "hasSuffix": (2, 2, lambda v, s: text(v).endswith(text(s))),
    "join": (1, 2, lambda v, by="": text(by).join([text(i) for i in items(v)])),
    "int": (1, 1, _int),
    "float": (1, 1, _float),
    "string": (1, 1, _string),
    "type": (1, 1, _kind),
    "abs": (1, 1, lambda v: abs(number(v))),
    "ceil": (1, 1, lambda v: float(math.ceil(number(v)))),
    "floor": (1, 1, lambda v: float(math.floor(number(v)))),
    "round": (1, 1, _round),
    "max": (1, 99, _extreme(max)),
    "min": (1, 99, _extreme(min)),
    "mean": (1, 99, _mean),
    "toJSON": (1, 1, _to_json),
    "fromJSON": (1, 1, _from_json),
    "toBase64": (1, 1, lambda v: base64.b64encode(whole(text(v)).encode()).decode()),
    "fromBase64": (1, 1, _base64),
    "keys": (1, 1, lambda v: list(_map(v))),
    "values": (1, 1, lambda v: list(_map(v).values())),
    "toPairs": (1, 1, lambda v: [[k, i] for k, i in _map(v).items()]),
    "fromPairs": (1, 1, lambda v: {text(_list(p)[0]): p[1] for p in _list(v) if len(_list(p)) == 2}),
    "first": (1, 1, lambda v: v[0] if items(v) else None),
    "last": (1, 1, lambda v: v[-1] if items(v) else None),
    "take": (2, 2, lambda v, n: _list(v)[: max(0, int(number(n)))]),
    "get": (2, 2, _get),
    "reverse": (1, 1, lambda v: _list(v)[::-1]),
    "sort": (1, 2, _sorted),
    "uniq": (1, 1, _unique),
    "flatten": (1, 1, _flatten),
    "concat": (1, 99, lambda *v: [i for part in v for i in _list(part)]),
    "bitand": (2, 2, lambda a, b: _int(a) & _int(b)),
    "bitor": (2, 2, lambda a, b: _int(a) | _int(b)),
    "bitxor": (2, 2, lambda a, b: _int(a) ^ _int(b)),
    "bitnot": (1, 1, lambda a: ~_int(a)),
    "now": (0, 0, time.time_ns),
}
"""Name -> least and most arguments, function."""

Each = Callable[..., Any]


def _find(found: list[Any], each: Each, *, last: bool = False, index: bool = False) -> Any:
    places = range(len(found) - 1, -1, -1) if last else range(len(found))
    for i in places:
        if boolean(each(found[i], i)):
            return i if index else found[i]
    return None


def _group(found: list[Any], each: Each) -> dict[str, list[Any]]:
    out: dict[str, list[Any]] = {}
    for i, v in enumerate(found):
        out.setdefault(_string(each(v, i)), []).append(v)
    return out


def _reduce(found: list[Any], each: Each, initial: Any = None) -> Any:
    acc, rest = initial, list(enumerate(found))
    if initial is None and found:
        acc, rest = found[0], rest[1:]
    for i, v in rest:
        acc = each(v, i, acc)
    return acc


def _count(found: list[Any], each: Each) -> int:
    return sum(boolean(each(v, i)) for i, v in enumerate(found))


PREDICATES: Final[dict[str, Callable[..., Any]]] = {
    "all": lambda found, each: all(boolean(each(v, i)) for i, v in enumerate(found)),
    "any": lambda found, each: any(boolean(each(v, i)) for i, v in enumerate(found)),
    "none": lambda found, each: not any(boolean(each(v, i)) for i, v in enumerate(found)),
    "one": lambda found, each: _count(found, each) == 1,
    "filter": lambda found, each: [v for i, v in enumerate(found) if boolean(each(v, i))],
    "map": lambda found, each: [each(v, i) for i, v in enumerate(found)],
    "count": _count,
    "find": _find,
    "findIndex": lambda found, each: _find(found, each, index=True),
    "findLast": lambda found, each: _find(found, each, last=True),
    "findLastIndex": lambda found, each: _find(found, each, last=True, index=True),
    "groupBy": _group,
    "reduce": _reduce,
    "sum": lambda found, each: sum(number(each(v, i)) for i, v in enumerate(found)),
    "sortBy": lambda found, each: [
        v for _, v in sorted(((each(v, i), v) for i, v in enumerate(found)), key=lambda pair: (isinstance(pair[0], str), pair[0]))
    ],
}
"""Functions that take a list and an expression over its elements (`#`, `.field`, `#index`, `#acc`)."""
