"""Converters: functions of a condition. Each is a `Converter` with its parameters; arguments come as closures over the `Env`."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from typing import Any, NamedTuple

from kofagent.config.base import parse_duration
from kofagent.ottl.errors import EvaluationError
from kofagent.ottl.paths import Env, Read, points
from kofagent.ottl.types import INT_MAX, INT_MIN, Duration, Time, equal, kind, string_like


class Converter(NamedTuple):
    """`parameters` by upstream's names, a `?` behind the optional ones. `build` gets one closure (or None) for each.

    `contexts` empty: every context.
    """

    parameters: tuple[str, ...]
    build: Callable[..., Read]
    contexts: tuple[str, ...] = ()


class Constant:
    """A closure whose value is known when the expression is built."""

    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value

    def __call__(self, env: Env) -> Any:
        return self.value


def _text(value: Any, what: str) -> str:
    if not isinstance(value, str):
        raise EvaluationError(f"{what} needs a string, not {kind(value)}")
    return value


def _is_match(target: Read, pattern: Read) -> Read:
    from kofagent.config.re2 import compile_re2, compile_test  # a configuration without patterns does not load RE2

    if isinstance(pattern, Constant):
        if not isinstance(pattern.value, str):
            raise ValueError("the pattern of IsMatch is not a string")
        found = compile_test(pattern.value)

        def fixed(env: Env) -> bool:
            value = target(env)
            if not isinstance(value, str):
                value = string_like(value)
            return value is not None and found(value)

        return fixed

    def dynamic(env: Env) -> bool:
        try:
            expression = compile_re2(_text(pattern(env), "IsMatch"))
        except ValueError as error:
            raise EvaluationError(f"IsMatch: {error}") from None
        value = string_like(target(env))
        return value is not None and expression.search(value) is not None

    return dynamic


def _is(*types: type) -> Callable[..., Read]:
    def build(value: Read) -> Read:
        def read(env: Env) -> bool:
            return type(value(env)) in types

        return read

    return build


def _len(target: Read) -> Read:
    def read(env: Env) -> int:
        value = target(env)
        if isinstance(value, str):
            return len(value.encode("utf-8", "surrogatepass"))
        if isinstance(value, list | dict | bytes):
            return len(value)
        raise EvaluationError(f"Len needs a string, list or map, not {kind(value)}")

    return read


def _concat(values: Read, delimiter: Read) -> Read:
    def read(env: Env) -> str:
        items = values(env)
        if not isinstance(items, list):
            raise EvaluationError("Concat needs a list")
        # Lists, maps and bytes have no place in the text, nil shows as in Go.
        parts = ["<nil>" if v is None else string_like(v) or "" for v in items]
        return _text(delimiter(env), "Concat").join(parts)

    return read


def _to_int(value: Read) -> Read:
    def read(env: Env) -> int | None:
        got = value(env)
        if isinstance(got, bool):
            return int(got)
        if isinstance(got, int):
            return got
        if isinstance(got, float):
            return int(got) if INT_MIN <= got <= INT_MAX else None
        if isinstance(got, str) and re.fullmatch(r"[-+]?\d{1,19}", got, re.ASCII):
            number = int(got)
            return number if INT_MIN <= number <= INT_MAX else None
        return None

    return read


def _to_double(value: Read) -> Read:
    def read(env: Env) -> float | None:
        got = value(env)
        if isinstance(got, bool | int | float):
            return float(got)
        if isinstance(got, str) and got == got.strip() and "_" not in got:
            try:
                return float(got)
            except ValueError:
                return None
        return None

    return read


def _to_bool(value: Read) -> Read:
    words = {
        "1": True,
        "t": True,
        "T": True,
        "true": True,
        "TRUE": True,
        "True": True,
        "0": False,
        "f": False,
        "F": False,
        "false": False,
        "FALSE": False,
        "False": False,
    }

    def read(env: Env) -> bool | None:
        got = value(env)
        if isinstance(got, bool):
            return got
        if isinstance(got, int | float):
            return got != 0
        return words.get(got) if isinstance(got, str) else None

    return read


def _to_string(value: Read) -> Read:
    def read(env: Env) -> str | None:
        return string_like(value(env))

    return read


def _of_text(name: str, convert: Callable[[str], Any]) -> Callable[..., Read]:
    def build(target: Read) -> Read:
        def read(env: Env) -> Any:
            return convert(_text(target(env), name))

        return read

    return build


def _snake(text: str) -> str:
    text = re.sub(r"[\s\-.]+", "_", text.strip())
    text = re.sub(r"([a-z0-9])([A-Z])", r"\1_\2", text)
    # Looking around keeps it linear: a repetition in front would be tried again from every letter of a run.
    return re.sub(r"(?<=[A-Z])(?=[A-Z][a-z])", "_", text).lower()


def _camel(text: str) -> str:
    return "".join(w[:1].upper() + w[1:] for w in re.split(r"[_\s\-.]+", text) if w)


_CASES: dict[str, Callable[[str], str]] = {"lower": str.lower, "upper": str.upper, "snake": _snake, "camel": _camel}


def _convert_case(target: Read, to_case: Read) -> Read:
    if not isinstance(to_case, Constant) or to_case.value not in _CASES:
        raise ValueError("ConvertCase supports lower, upper, snake and camel")
    return _of_text("ConvertCase", _CASES[to_case.value])(target)


def _substring(target: Read, start: Read, length: Read, utf8: Read | None) -> Read:
    def read(env: Env) -> str:
        text, at, size = _text(target(env), "Substring"), start(env), length(env)
        if type(at) is not int or type(size) is not int or at < 0 or size <= 0:
            raise EvaluationError("Substring needs a start of at least 0 and a length of at least 1")
        if utf8 is not None and utf8(env) is True:
            return text[at : at + size]
        data = text.encode("utf-8", "surrogatepass")
        if at + size > len(data):
            raise EvaluationError(f"Substring exceeds the length of {len(data)} bytes")
        return data[at : at + size].decode("utf-8", "replace")

    return read


def _two_texts(name: str, what: Callable[[str, str], Any]) -> Callable[..., Read]:
    def build(target: Read, other: Read) -> Read:
        def read(env: Env) -> Any:
            return what(_text(target(env), name), _text(other(env), name))

        return read

    return build


def _trim(target: Read, replacement: Read | None) -> Read:
    def read(env: Env) -> str:
        return _text(target(env), "Trim").strip(_text(replacement(env), "Trim") if replacement else " ")

    return read


def _contains_value(target: Read, item: Read) -> Read:
    def read(env: Env) -> bool:
        values = target(env)
        if not isinstance(values, list):
            raise EvaluationError(f"ContainsValue needs a list, not {kind(values)}")
        wanted = item(env)
        return any(equal(v, wanted) for v in values)

    return read


def _is_root_span() -> Read:
    def read(env: Env) -> bool:
        return not (env.span if env.span is not None else env.record).parent_span_id.strip(b"\0")

    return read


def _metric_of(env: Env) -> Any:
    return env.metric if env.metric is not None else env.record


def _has_key(key: Read) -> Read:
    def read(env: Env) -> bool:
        wanted = key(env)
        return any(a.key == wanted for p in points(_metric_of(env)) for a in p.attributes)

    return read


def _has_attribute(key: Read, expected: Read) -> Read:
    def read(env: Env) -> bool:
        wanted, value = key(env), expected(env)
        return any(a.key == wanted and a.value.string_value == value for p in points(_metric_of(env)) for a in p.attributes)

    return read


def _bytes_of(size: int, name: str) -> Callable[..., Read]:
    def build(data: Read) -> Read:
        def read(env: Env) -> bytes:
            value = data(env)
            if isinstance(value, str):
                try:
                    value = bytes.fromhex(value)
                except ValueError:
                    raise EvaluationError(f"{name} needs hex digits") from None
            if not isinstance(value, bytes) or len(value) != size:
                raise EvaluationError(f"{name} wants {size} bytes")
            return value

        return read

    return build


def _duration(text: Read) -> Read:
    def parse(value: Any) -> Duration:
        return Duration(round(parse_duration(_text(value, "Duration")) * 1e9))

    if isinstance(text, Constant):
        return Constant(parse(text.value))

    def read(env: Env) -> Duration:
        try:
            return parse(text(env))
        except ValueError as error:
            raise EvaluationError(f"Duration: {error}") from None

    return read


def _unix(divisor: int) -> Callable[..., Read]:
    def build(at: Read) -> Read:
        def read(env: Env) -> int:
            value = at(env)
            if not isinstance(value, Time):
                raise EvaluationError(f"a time is needed, not {kind(value)}")
            return value.ns // divisor

        return read

    return build


def _now() -> Read:
    return lambda env: Time(time.time_ns())


def _hex(value: Read) -> Read:
    def read(env: Env) -> str:
        got = value(env)
        if isinstance(got, bytes):
            return got.hex()
        return (string_like(got) or "").encode("utf-8", "surrogatepass").hex()

    return read


def _index(target: Read, item: Read) -> Read:
    def read(env: Env) -> int:
        where, what = target(env), item(env)
        if isinstance(where, str):
            return where.encode("utf-8", "surrogatepass").find(_text(what, "Index").encode("utf-8", "surrogatepass"))
        if isinstance(where, list):
            return next((i for i, v in enumerate(where) if equal(v, what)), -1)
        raise EvaluationError(f"Index needs a string or a list, not {kind(where)}")

    return read


CONVERTERS: dict[str, Converter] = {
    "Bool": Converter(("value",), _to_bool),
    "Concat": Converter(("values", "delimiter"), _concat),
    "ContainsValue": Converter(("target", "item"), _contains_value),
    "ConvertCase": Converter(("target", "to_case"), _convert_case),
    "Double": Converter(("value",), _to_double),
    "Duration": Converter(("duration",), _duration),
    "HasAttrKeyOnDatapoint": Converter(("key",), _has_key, ("metric",)),
    "HasAttrOnDatapoint": Converter(("key", "expected"), _has_attribute, ("metric",)),
    "HasPrefix": Converter(("value", "prefix"), _two_texts("HasPrefix", str.startswith)),
    "HasSuffix": Converter(("value", "suffix"), _two_texts("HasSuffix", str.endswith)),
    "Hex": Converter(("value",), _hex),
    "Index": Converter(("target", "value"), _index),
    "Int": Converter(("value",), _to_int),
    "IsBool": Converter(("value",), _is(bool)),
    "IsDouble": Converter(("value",), _is(float)),
    "IsInt": Converter(("value",), _is(int)),
    "IsList": Converter(("value",), _is(list)),
    "IsMap": Converter(("value",), _is(dict)),
    "IsMatch": Converter(("target", "pattern"), _is_match),
    "IsRootSpan": Converter((), _is_root_span, ("span", "spanevent")),
    "IsString": Converter(("value",), _is(str)),
    "Len": Converter(("target",), _len),
    "Now": Converter((), _now),
    "SpanID": Converter(("bytes",), _bytes_of(8, "SpanID")),
    "Split": Converter(("target", "delimiter"), _two_texts("Split", lambda t, d: t.split(d) if d else list(t))),
    "String": Converter(("value",), _to_string),
    "Substring": Converter(("target", "start", "length", "utf8_safe?"), _substring),
    "ToLowerCase": Converter(("target",), _of_text("ToLowerCase", str.lower)),
    "ToUpperCase": Converter(("target",), _of_text("ToUpperCase", str.upper)),
    "TraceID": Converter(("bytes",), _bytes_of(16, "TraceID")),
    "Trim": Converter(("target", "replacement?"), _trim),
    "UnixMicro": Converter(("time",), _unix(10**3)),
    "UnixMilli": Converter(("time",), _unix(10**6)),
    "UnixNano": Converter(("time",), _unix(1)),
    "UnixSeconds": Converter(("time",), _unix(10**9)),
}
