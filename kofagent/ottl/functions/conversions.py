"""Kinds of values: asking for them and converting between them."""

from __future__ import annotations

import math
from typing import Any

from kofagent.ottl.errors import EvaluationError
from kofagent.ottl.functions.core import converter
from kofagent.ottl.types import INT_MIN, Duration, SpanID, Time, TraceID, is_number, kind


@converter("String(target S~)")
def string(target: str | None) -> str | None:
    """The value as text; nil stays nil."""
    return target


@converter("Int(target I~)")
def integer(target: int | None) -> int | None:
    """The value as an integer, cut toward zero; nil stays nil."""
    return target


@converter("Double(target F~)")
def double(target: float | None) -> float | None:
    """The value as a double; nil stays nil."""
    return target


@converter("Bool(target B~)")
def boolean(target: bool | None) -> bool | None:
    """The value as a boolean; nil stays nil."""
    return target


def _only(*types: type) -> Any:
    """Refuses a literal of another kind at the start, as upstream's typed getters do."""

    def check(target: Any = None) -> None:
        if target is not None and type(target) not in types:
            raise EvaluationError(f"a {kind(target)} never is what is asked for")

    return check


@converter("IsString(target A)", check=_only(str))
def is_string(target: Any) -> bool:
    """Whether it is a string."""
    return isinstance(target, str)


@converter("IsInt(target A)", check=_only(int))
def is_int(target: Any) -> bool:
    """Whether it is an integer."""
    return type(target) is int


@converter("IsDouble(target A)", check=_only(float))
def is_double(target: Any) -> bool:
    """Whether it is a double."""
    return isinstance(target, float)


@converter("IsBool(target A)", check=_only(bool))
def is_bool(target: Any) -> bool:
    """Whether it is a boolean."""
    return isinstance(target, bool)


@converter("IsMap(target A)", check=_only(dict))
def is_map(target: Any) -> bool:
    """Whether it is a map."""
    return isinstance(target, dict)


@converter("IsList(target A)")
def is_list(target: Any) -> bool:
    """Whether it is a list."""
    return isinstance(target, list)


@converter("IsEmpty(target A)")
def is_empty(target: Any) -> bool:
    """Whether it is nil, zero, false, or has nothing in it; a time never is."""
    if isinstance(target, Time):
        return False
    if isinstance(target, Duration):
        return target.ns == 0
    if isinstance(target, TraceID | SpanID):
        return not target.data.strip(b"\0")
    return target is None or target is False or target in ("", b"") or (is_number(target) and target == 0) or target in ([], {})


@converter("Len(target A)")
def length(target: Any) -> int:
    """Bytes of a string, elements of a list, entries of a map."""
    if isinstance(target, str):
        return len(target.encode("utf-8", "surrogatepass"))
    if isinstance(target, list | dict | bytes):
        return len(target)
    raise EvaluationError(f"Len needs a string, list or map, not {kind(target)}")


@converter("Log(value F~)")
def logarithm(value: float | None) -> float:
    """The natural logarithm of a number above 0."""
    if value is None or not value > 0:
        raise EvaluationError("Log needs a number above 0")
    return math.log(value)


@converter("Hex(target Y~)")
def hexadecimal(target: bytes | None) -> str:
    """The bytes in hex digits, without a prefix."""
    return "" if target is None else target.hex()


def _id(size: int, name: str, data: bytes | None) -> bytes:
    if data is None:
        raise EvaluationError(f"{name} needs {size} bytes")
    if len(data) == 2 * size:
        try:
            return bytes.fromhex(data.decode("ascii"))
        except ValueError:
            raise EvaluationError(f"{name} needs {2 * size} hex digits") from None
    if len(data) != size:
        raise EvaluationError(f"{name} needs {size} bytes or {2 * size} hex digits, not {len(data)} bytes")
    return data


@converter("TraceID(bytes Y~)", check=lambda bytes=None: _id(16, "TraceID", bytes) if bytes is not None else None)
def trace_id(data: bytes | None) -> TraceID:
    """A trace id of 16 bytes or 32 hex digits."""
    return TraceID(_id(16, "TraceID", data))


@converter("SpanID(bytes Y~)", check=lambda bytes=None: _id(8, "SpanID", bytes) if bytes is not None else None)
def span_id(data: bytes | None) -> SpanID:
    """A span id of 8 bytes or 16 hex digits."""
    return SpanID(_id(8, "SpanID", data))


@converter("ProfileID(bytes Y~)", check=lambda bytes=None: _id(16, "ProfileID", bytes) if bytes is not None else None)
def profile_id(data: bytes | None) -> TraceID:
    """A profile id of 16 bytes or 32 hex digits."""
    return TraceID(_id(16, "ProfileID", data))


@converter("ParseInt(target S, base I)")
def parse_int(target: str, base: int) -> int:
    """The integer that a text is in a base of 2 to 36; 0: by its prefix."""
    if not (base == 0 or 2 <= base <= 36):
        raise EvaluationError("the base of ParseInt is 0 or 2 to 36")
    # Go takes underscores and prefixes with base 0 only, and never space.
    if not target or target != target.strip() or ("_" in target and base) or len(target) > 80:
        raise EvaluationError("ParseInt: not an integer")
    text, sign = (target[1:], target[0]) if target[0] in "+-" else (target, "")
    if base == 0 and len(text) > 1 and text[0] == "0" and text[1:].replace("_", "").isdigit():
        text = "0o" + text[1:].lstrip("_")
    if base and text[:1] == "0" and text[1:2].lower() in ("x", "o", "b") and base not in (16, 36) and not _digit(text[1], base):
        raise EvaluationError("ParseInt: not an integer")
    if base in (2, 8, 16) and text[:2].lower() in ("0x", "0o", "0b"):
        raise EvaluationError("ParseInt: not an integer")
    try:
        value = int(sign + text, base)
    except ValueError:
        raise EvaluationError(f"ParseInt: not an integer of base {base}") from None
    if not INT_MIN <= value < -INT_MIN:
        raise EvaluationError("ParseInt: more than 64 bits")
    return value


def _digit(char: str, base: int) -> bool:
    return char.isalnum() and int(char, 36) < base
