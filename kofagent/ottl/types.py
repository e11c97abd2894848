"""Values of the language in addition to Python's, and how values compare and convert.

nil is None; integers, floats, strings, booleans, byte strings, lists and maps are Python's; times and durations are separate
classes so that they never compare with numbers.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from kofagent.ottl.errors import EvaluationError
from kofagent.transform.anyvalue import as_string, number

INT_MIN, INT_MAX = -(1 << 63), (1 << 63) - 1


class Time(NamedTuple):
    """A point in time, Unix nanoseconds."""

    ns: int


class Duration(NamedTuple):
    """A span of time, nanoseconds."""

    ns: int


def is_number(value: Any) -> bool:
    """Whether it is an integer or a float (a boolean is neither)."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def wrap(value: int) -> int:
    """A 64-bit signed integer, wrapped around as Go does."""
    return ((value - INT_MIN) & 0xFFFFFFFFFFFFFFFF) + INT_MIN


def equal(a: Any, b: Any) -> bool:
    """Deep equality; numbers compare by value at the top and by type inside of lists and maps, as upstream does."""
    if is_number(a) and is_number(b):
        return bool(a == b)
    return _same(a, b)


def _same(a: Any, b: Any) -> bool:
    if type(a) is not type(b):
        return False
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(_same(v, b[k]) for k, v in a.items())
    if isinstance(a, list):
        return len(a) == len(b) and all(map(_same, a, b))
    return bool(a == b)


def compare(a: Any, op: str, b: Any) -> bool:
    """What `a op b` says. Values that cannot be compared are unequal and in no order; nothing is raised."""
    if a is None or b is None:
        if a is None and b is None:
            return op in ("==", "<=", ">=")
        return op == "!="
    if op == "==":
        return equal(a, b)
    if op == "!=":
        return not equal(a, b)
    if not ((is_number(a) and is_number(b)) or (type(a) is type(b) and not isinstance(a, dict | list))):
        return False
    if isinstance(a, str):
        # Go orders strings by their bytes.
        a, b = a.encode("utf-8", "surrogatepass"), b.encode("utf-8", "surrogatepass")
    if op == "<":
        return bool(a < b)
    if op == "<=":
        return bool(a <= b)
    if op == ">":
        return bool(a > b)
    return bool(a >= b)


def arithmetic(a: Any, op: str, b: Any) -> Any:
    """`a op b` of numbers, times and durations. EvaluationError where it makes no sense, also for a division by zero."""
    if is_number(a) and is_number(b):
        if isinstance(a, int) and isinstance(b, int):
            if op == "+":
                return wrap(a + b)
            if op == "-":
                return wrap(a - b)
            if op == "*":
                return wrap(a * b)
            if b == 0:
                raise EvaluationError("division by zero")
            quotient = abs(a) // abs(b)
            return wrap(quotient if (a < 0) == (b < 0) else -quotient)
        try:
            return {"+": float.__add__, "-": float.__sub__, "*": float.__mul__, "/": float.__truediv__}[op](float(a), float(b))
        except ZeroDivisionError:
            raise EvaluationError("division by zero") from None
    if isinstance(a, Time) and isinstance(b, Duration) and op in "+-":
        return Time(a.ns + b.ns if op == "+" else a.ns - b.ns)
    if isinstance(a, Time) and isinstance(b, Time) and op == "-":
        return Duration(a.ns - b.ns)
    if isinstance(a, Duration) and isinstance(b, Duration) and op in "+-":
        return Duration(a.ns + b.ns if op == "+" else a.ns - b.ns)
    if isinstance(a, Duration) and isinstance(b, Time) and op == "+":
        return Time(a.ns + b.ns)
    raise EvaluationError(f"{kind(a)} {op} {kind(b)} has no value")


def index(value: Any, key: Any) -> Any:
    """`value[key]` of a map or a list; nil where there is no such entry or no map or list."""
    if isinstance(value, dict):
        if not isinstance(key, str):
            raise EvaluationError(f"a map is indexed by strings, not by {kind(key)}")
        return value.get(key)
    if isinstance(value, list):
        if not isinstance(key, int) or isinstance(key, bool):
            raise EvaluationError(f"a list is indexed by integers, not by {kind(key)}")
        return value[key] if 0 <= key < len(value) else None
    return None


def kind(value: Any) -> str:
    """The word for a value's type in messages."""
    if value is None:
        return "nil"
    names = {
        bool: "bool",
        int: "int",
        float: "double",
        str: "string",
        bytes: "bytes",
        list: "list",
        dict: "map",
        Time: "time",
        Duration: "duration",
    }
    return names.get(type(value), type(value).__name__)


def string_like(value: Any) -> str | None:
    """Upstream's StringLikeGetter: numbers and booleans as text, bytes in hex, lists and maps as JSON; nil stays nil."""
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, float):
        return number(value)
    if isinstance(value, Time | Duration):
        return str(value.ns)
    return as_string(value)
