"""What expr-lang's operators do with values: numbers, strings, booleans, nil (None), lists and maps."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Final

from kofagent.operators.regex import PatternError, pattern


class ExpressionError(ValueError):
    """An expression is wrong, or cannot be evaluated on this entry."""


def kind(value: Any) -> str:
    """The word for a value's kind."""
    if value is None:
        return "nil"
    return {bool: "a boolean", int: "an integer", float: "a number", str: "a string", list: "a list", dict: "a map"}.get(
        type(value), type(value).__name__
    )


def number(value: Any) -> Any:
    """The value if it is a number."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return value
    raise ExpressionError(f"{kind(value)} where a number is needed")


def boolean(value: Any) -> bool:
    """The value if it is a boolean."""
    if value is True or value is False:
        return value
    raise ExpressionError(f"{kind(value)} where a boolean is needed")


def text(value: Any) -> str:
    """The value if it is a string."""
    if isinstance(value, str):
        return value
    raise ExpressionError(f"{kind(value)} where a string is needed")


def items(value: Any) -> list[Any]:
    """The elements of a list, or the values of a map."""
    if isinstance(value, list):
        return value
    if isinstance(value, dict):
        return list(value.values())
    raise ExpressionError(f"{kind(value)} where a list is needed")


def equal(a: Any, b: Any) -> bool:
    """Deep equality; integers equal floats of the same value, booleans equal only booleans."""
    if isinstance(a, bool) or isinstance(b, bool):
        return a is b
    if isinstance(a, int | float) and isinstance(b, int | float):
        return a == b
    if type(a) is not type(b):
        return False
    if isinstance(a, list):
        return len(a) == len(b) and all(map(equal, a, b))
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(equal(v, b[k]) for k, v in a.items())
    return bool(a == b)


def member(value: Any, key: Any, optional: bool) -> Any:
    """`value.key` or `value[key]`: nil for a key a map does not have; an error for nil and for what has no members."""
    if isinstance(value, dict):
        return value.get(key) if isinstance(key, str) else None
    if value is None and optional:
        return None
    if isinstance(value, list | str) and isinstance(key, int | float) and not isinstance(key, bool):
        index = int(key)
        if -len(value) <= index < len(value):
            return value[index]
        raise ExpressionError(f"index {index} of {len(value)} elements")
    raise ExpressionError(f"{kind(value)} has no member")


def sliced(value: Any, low: Any, high: Any) -> Any:
    """`value[low:high]` of text or a list."""
    if not isinstance(value, list | str):
        raise ExpressionError(f"{kind(value)} cannot be sliced")
    return value[None if low is None else int(number(low)) : None if high is None else int(number(high))]


def contained(a: Any, b: Any) -> bool:
    """`a in b`."""
    if b is None:
        return False
    if isinstance(b, list):
        return any(equal(a, item) for item in b)
    if isinstance(b, dict):
        return isinstance(a, str) and a in b
    raise ExpressionError(f"{kind(b)} where a list or a map is needed")


def matches(a: Any, b: Any) -> bool:
    """`a matches b`: an RE2 search; false for nil."""
    if a is None or b is None:
        return False
    try:
        return pattern(text(b)).test(text(a))
    except PatternError as error:
        raise ExpressionError(str(error)) from None


def _on_strings(apply: Callable[[str, str], bool]) -> Callable[[Any, Any], bool]:
    def run(a: Any, b: Any) -> bool:
        if a is None or b is None:
            return False
        return apply(text(a), text(b))

    return run


def _compare(apply: Callable[[Any, Any], bool]) -> Callable[[Any, Any], bool]:
    def run(a: Any, b: Any) -> bool:
        if isinstance(a, str) and isinstance(b, str):
            # Go compares the bytes, which for UTF-8 is the order of the code points.
            return apply(a, b)
        return apply(number(a), number(b))

    return run


def _add(a: Any, b: Any) -> Any:
    if isinstance(a, str) and isinstance(b, str):
        return a + b
    return number(a) + number(b)


def _divide(a: Any, b: Any) -> Any:
    a, b = number(a), number(b)
    if b == 0:
        return math.nan if a == 0 or math.isnan(a) else math.copysign(math.inf, a)
    return a / b


def _modulo(a: Any, b: Any) -> int:
    if not isinstance(a, int) or not isinstance(b, int) or b == 0:
        raise ExpressionError("% needs two integers, the second not 0")
    return int(math.fmod(a, b))


def _power(a: Any, b: Any) -> float:
    try:
        out = float(number(a)) ** float(number(b))
    except (OverflowError, ZeroDivisionError):
        return math.inf
    return math.nan if isinstance(out, complex) else out


def _range(a: Any, b: Any) -> list[int]:
    low, high = int(number(a)), int(number(b))
    if high - low > 100_000:
        raise ExpressionError(f"the range {low}..{high} is too long")
    return list(range(low, high + 1))


UNARY: Final[dict[str, Callable[[Any], Any]]] = {"not": lambda v: not boolean(v), "-": lambda v: -number(v), "+": number}
BINARY: Final[dict[str, Callable[[Any, Any], Any]]] = {
    "==": equal,
    "!=": lambda a, b: not equal(a, b),
    "in": contained,
    "matches": matches,
    "<": _compare(lambda a, b: a < b),
    ">": _compare(lambda a, b: a > b),
    "<=": _compare(lambda a, b: a <= b),
    ">=": _compare(lambda a, b: a >= b),
    "contains": _on_strings(lambda a, b: b in a),
    "startsWith": _on_strings(str.startswith),
    "endsWith": _on_strings(str.endswith),
    "+": _add,
    "-": lambda a, b: number(a) - number(b),
    "*": lambda a, b: number(a) * number(b),
    "/": _divide,
    "%": _modulo,
    "**": _power,
    "..": _range,
}
