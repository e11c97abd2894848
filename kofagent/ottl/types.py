"""Values of the language in addition to Python's, and how values compare and convert.

nil is None; integers, floats, strings, booleans, byte strings, lists and maps are Python's. Times, durations and ids are classes
of their own, so that they never compare with numbers or bytes; so are lists that are no attribute values.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Any, NamedTuple

from kofagent.ottl.errors import EvaluationError
from kofagent.transform.anyvalue import as_string, number, to_json

INT_MIN, INT_MAX = -(1 << 63), (1 << 63) - 1
MAX_INDEX = 65536
"""A list that an index makes is not longer."""


@dataclass(frozen=True, slots=True, order=True)
class Time:
    """A point in time, Unix nanoseconds, and the zone that it was read in, which only its parts and its text show."""

    ns: int
    zone: tzinfo | None = field(default=None, compare=False)


class Duration(NamedTuple):
    """A span of time, nanoseconds."""

    ns: int


class TraceID(NamedTuple):
    """16 bytes."""

    data: bytes


class SpanID(NamedTuple):
    """8 bytes."""

    data: bytes


class Strings(list[str]):
    """What Split gives: a list of strings that equals no list of values, and becomes one where it is stored."""


class Own(list[Any]):
    """A list that belongs to a path, as the buckets of a histogram: equal only to the same kind."""

    def __init__(self, kind: str, items: Any) -> None:
        super().__init__(items)
        self.kind = kind

    __hash__ = None

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Own) and self.kind == other.kind and list(self) == list(other)


class Whole(NamedTuple):
    """A message as a value: `resource`, `span.status`. It can be set to where the same kind is wanted."""

    kind: str
    message: Any


def is_number(value: Any) -> bool:
    """Whether it is an integer or a float (a boolean is neither)."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def wrap(value: int) -> int:
    """A 64-bit signed integer, wrapped around as Go does."""
    return ((value - INT_MIN) & 0xFFFFFFFFFFFFFFFF) + INT_MIN


def equal(a: Any, b: Any) -> bool:
    """Deep equality; numbers compare by value at the top and by type inside of lists and maps, as upstream does."""
    if is_number(a) and is_number(b):
        return bool(a == b) if type(a) is type(b) else float(a) == float(b)
    return _same(a, b)


def _same(a: Any, b: Any) -> bool:
    if type(a) is not type(b):
        return False
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(_same(v, b[k]) for k, v in a.items())
    if isinstance(a, list) and not isinstance(a, Own):
        return len(a) == len(b) and all(map(_same, a, b))
    return bool(a == b)


_ORDERED = (str, bytes, bool, Time, Duration)


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
    if is_number(a) and is_number(b):
        if type(a) is not type(b):
            a, b = float(a), float(b)
    elif type(a) is not type(b) or not isinstance(a, _ORDERED):
        return False
    elif isinstance(a, str):
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
            return _integers(a, op, b)
        try:
            return {"+": float.__add__, "-": float.__sub__, "*": float.__mul__, "/": float.__truediv__}[op](float(a), float(b))
        except ZeroDivisionError:
            raise EvaluationError("division by zero") from None
    if isinstance(a, Time) and isinstance(b, Duration) and op in "+-":
        return Time(a.ns + b.ns if op == "+" else a.ns - b.ns, a.zone)
    if isinstance(a, Time) and isinstance(b, Time) and op == "-":
        return Duration(a.ns - b.ns)
    if isinstance(a, Duration) and isinstance(b, Duration) and op in "+-":
        return Duration(wrap(a.ns + b.ns if op == "+" else a.ns - b.ns))
    if isinstance(a, Duration) and isinstance(b, Time) and op == "+":
        return Time(a.ns + b.ns, b.zone)
    raise EvaluationError(f"{kind(a)} {op} {kind(b)} has no value")


def _integers(a: int, op: str, b: int) -> int:
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


def sign(op: str, value: Any) -> Any:
    """`-value` or `+value` of a number or duration."""
    if not is_number(value) and not isinstance(value, Duration):
        raise EvaluationError(f"{op}{kind(value)} has no value")
    if op == "+":
        return value
    if isinstance(value, Duration):
        return Duration(-value.ns)
    return wrap(-value) if isinstance(value, int) else -value


def index(value: Any, keys: list[Any]) -> Any:
    """`value[key]...` of maps and lists; nil where a map has no such key, EvaluationError for everything else that is missing."""
    for key in keys:
        if isinstance(value, dict):
            if not isinstance(key, str):
                raise EvaluationError(f"a map is indexed by strings, not by {kind(key)}")
            if key not in value:
                return None
            value = value[key]
        elif isinstance(value, list):
            value = value[position(value, key)]
        else:
            raise EvaluationError(f"{kind(value)} cannot be indexed")
    return value


def position(value: list[Any], key: Any) -> int:
    """`key` as an index of the list. EvaluationError."""
    if not isinstance(key, int) or isinstance(key, bool):
        raise EvaluationError(f"a list is indexed by integers, not by {kind(key)}")
    if not 0 <= key < len(value):
        raise EvaluationError(f"index {key} is out of the bounds of a list of {len(value)}")
    return key


def put(value: Any, keys: list[Any], new: Any) -> Any:
    """The value with `new` at `[key]...`; what is missing on the way is made. EvaluationError where it cannot be."""
    if not keys:
        return new
    key, rest = keys[0], keys[1:]
    if isinstance(value, dict):
        if not isinstance(key, str):
            raise EvaluationError(f"a map is indexed by strings, not by {kind(key)}")
        value[key] = put(value.get(key), rest, new)
        return value
    if isinstance(value, list):
        at = position(value, key)
        value[at] = put(value[at], rest, new)
        return value
    if value is not None:
        raise EvaluationError(f"{kind(value)} cannot be indexed")
    if isinstance(key, str):
        return {key: put(None, rest, new)}
    if not isinstance(key, int) or isinstance(key, bool):
        raise EvaluationError(f"{kind(key)} is no index")
    if key > MAX_INDEX:
        raise EvaluationError(f"a list of more than {MAX_INDEX} elements is not made by an index")
    return [*([None] * key), put(None, rest, new)]


def stored(value: Any) -> Any:
    """A copy of the value as attributes have it. EvaluationError for a kind that they do not have."""
    if value is None or isinstance(value, str | bool | float | bytes):
        return value
    if isinstance(value, int):
        return wrap(value)
    if isinstance(value, dict):
        return {key: stored(v) for key, v in value.items()}
    if isinstance(value, list) and (not isinstance(value, Own) or value.kind == "numbers"):
        return [stored(v) for v in value]
    raise EvaluationError(f"{kind(value)} is no value of an attribute")


def kind(value: Any) -> str:
    """The word for a value's type in messages."""
    if value is None:
        return "nil"
    if isinstance(value, Own | Whole):
        return value.kind
    names = {
        bool: "bool",
        int: "int",
        float: "double",
        str: "string",
        bytes: "bytes",
        list: "list",
        Strings: "list",
        dict: "map",
        Time: "time",
        Duration: "duration",
        TraceID: "trace id",
        SpanID: "span id",
    }
    return names.get(type(value), type(value).__name__)


def rfc3339(ns: int) -> str:
    """The time as Go's RFC3339Nano, UTC."""
    seconds, rest = divmod(ns, 10**9)
    try:
        text = (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%S")
    except OverflowError:
        raise EvaluationError("the time is outside of the years 1 to 9999") from None
    fraction = f".{rest:09d}".rstrip("0") if rest else ""
    return f"{text.rjust(19, '0')}{fraction}Z"


def string_like(value: Any) -> str | None:
    """Upstream's StringLikeGetter: numbers and booleans as text, bytes in hex, lists and maps as JSON; nil stays nil."""
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, float):
        if value - value != 0:
            raise EvaluationError("NaN and infinity have no text")
        return number(value)
    if isinstance(value, Time):
        return f'"{rfc3339(value.ns)}"'
    if isinstance(value, Duration):
        return str(value.ns)
    if isinstance(value, TraceID | SpanID):
        return f"[{','.join(map(str, value.data))}]"
    if isinstance(value, dict | list):
        return html_safe(to_json(value))
    return as_string(value)


def html_safe(text: str) -> str:
    """JSON as Go's encoder writes it by default."""
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")
