"""What functions are made of: their parameters, written as a signature, and how arguments become what a function is given.

    @converter("Split(target S, delimiter S)")
    def split(target: str, delimiter: str) -> Strings: ...

Kinds of parameters, as upstream's getters (pkg/ottl/expression.go):

    A any value                          S I F B M L T D  string, int, double, bool, map, list, time, duration, nothing else
    S~ I~ F~ B~ Y~  like: converted      "s" #i #f #b     a literal only          ["s"] [#f]   a list of literals
    [S] [S~] [A]    a list of values     R  G             a regular expression, a glob: prepared when it is a literal
    M# a map that is written out: else an error at run time
    P  a path that is set                M! L!            a map or list at a path, changed in place and written back
    K! the keys of a map at a path; the function gives those to take out
    E  an element: no map, and a list only as a literal    fn  the name of a converter
    name?            optional: None, or what stands behind `=`; `=missing` is MISSING, told apart from nil

A function that needs the item itself says `env=True` and gets the `Env` first.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TypeVar

from kofagent.ottl.errors import EvaluationError
from kofagent.ottl.types import INT_MAX, INT_MIN, Duration, Time, kind, string_like


class Parameter(NamedTuple):
    """One parameter: its name, its kind, whether it may be left out, and what it is then."""

    name: str
    kind: str
    optional: bool
    default: Any


Check = Callable[..., object] | None


class Function(NamedTuple):
    """A converter or editor. `check` sees the arguments that are literals when the expression is built (ValueError)."""

    name: str
    parameters: tuple[Parameter, ...]
    call: Callable[..., Any]
    contexts: frozenset[str]
    env: bool
    check: Check
    where: frozenset[str]
    """Of "statements", "conditions" and "routing", those that have it; all if empty."""
    one_of: frozenset[str]
    """Optional parameters of which one must be given, if any."""


CONVERTERS: dict[str, Function] = {}
EDITORS: dict[str, Function] = {}

_PARAMETER = re.compile(r'(\w+)(\?)? (\["s"\]|\[#f\]|"s"|#[ifb]|\[[A-Z]~?\]|[A-Z][!~#]?|fn)(?:=(.+))?')
MISSING: Any = object()
"""An argument that is left out, where nil is something else."""
_DEFAULTS = {"true": True, "false": False, "missing": MISSING}


def _parameters(text: str) -> tuple[Parameter, ...]:
    found = []
    for part in text.split(", ") if text else ():
        match = _PARAMETER.fullmatch(part)
        assert match is not None, part
        name, optional, kind_of, default = match.groups()
        value: Any = None
        if default is not None:
            value = _DEFAULTS.get(default, int(default) if default.isdigit() else default.strip('"'))
        found.append(Parameter(name, kind_of, bool(optional), value))
    return tuple(found)


Impl = TypeVar("Impl", bound=Callable[..., Any])


def _register(
    table: dict[str, Function], signature: str, contexts: str, env: bool, check: Check, where: str, one_of: str = ""
) -> Callable[[Impl], Impl]:
    name, _, rest = signature.partition("(")

    def decorate(call: Impl) -> Impl:
        table[name] = Function(
            name,
            _parameters(rest.removesuffix(")")),
            call,
            frozenset(contexts.split()),
            env,
            check,
            frozenset(where.split()),
            frozenset(one_of.split()),
        )
        return call

    return decorate


def converter(
    signature: str, *, contexts: str = "", env: bool = False, check: Check = None, where: str = ""
) -> Callable[[Impl], Impl]:
    """Registers a converter; `contexts` are those that have it, separated by spaces (default: all)."""
    return _register(CONVERTERS, signature, contexts, env, check, where)


def editor(
    signature: str, *, contexts: str = "", env: bool = False, check: Check = None, where: str = "statements", one_of: str = ""
) -> Callable[[Impl], Impl]:
    """Registers an editor; of the parameters `one_of` at least one must be given."""
    return _register(EDITORS, signature, contexts, env, check, where, one_of)


# How values become arguments: one function for each kind


def strict(types: type | tuple[type, ...], word: str) -> Callable[[Any], Any]:
    """Lets values of these types through, others are an EvaluationError. A boolean is no integer."""
    no_bool = types is int

    def coerce(value: Any) -> Any:
        if not isinstance(value, types) or (no_bool and isinstance(value, bool)):
            raise EvaluationError(f"needs a {word}, not {kind(value)}")
        return value

    return coerce


def int_like(value: Any) -> int | None:
    """Upstream's IntLikeGetter. A text that is no integer is an EvaluationError."""
    if value is None or (isinstance(value, int) and not isinstance(value, bool)):
        return value
    if isinstance(value, bool):
        return int(value)
    if isinstance(value, float):
        if not INT_MIN <= value <= INT_MAX:  # NaN is not, either
            return INT_MIN
        return int(value)
    if isinstance(value, str) and re.fullmatch(r"[-+]?[0-9]{1,4000}", value):
        number = int(value)
        if INT_MIN <= number <= INT_MAX:
            return number
    raise EvaluationError(f"a {kind(value)} that is no integer")


_FLOAT = re.compile(
    r"[-+]?(?:(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:e[-+]?[0-9]+)?|inf(?:inity)?|nan|0x(?:[0-9a-f]+(?:\.[0-9a-f]*)?|\.[0-9a-f]+)p[-+]?[0-9]+)",
    re.IGNORECASE,
)


def float_like(value: Any) -> float | None:
    """Upstream's FloatLikeGetter. A text that is no number is an EvaluationError."""
    if value is None or isinstance(value, float):
        return value
    if isinstance(value, int):
        return float(value)
    if isinstance(value, str) and _FLOAT.fullmatch(value.replace("_", "") if value[:1].isdigit() else value):
        text = value.replace("_", "").lower()
        number = float.fromhex(text) if "x" in text else float(text)
        if "inf" in text or abs(number) != float("inf"):
            return number
    raise EvaluationError(f"a {kind(value)} that is no number")


_TRUE = frozenset(("1", "t", "T", "true", "TRUE", "True"))
_FALSE = frozenset(("0", "f", "F", "false", "FALSE", "False"))


def bool_like(value: Any) -> bool | None:
    """Upstream's BoolLikeGetter."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int | float):
        return value != 0
    if isinstance(value, str) and value in _TRUE | _FALSE:
        return value in _TRUE
    raise EvaluationError(f"a {kind(value)} that is no boolean")


def bytes_like(value: Any) -> bytes | None:
    """Upstream's ByteSliceLikeGetter: strings as they are, numbers as 8 bytes, booleans as one."""
    import struct

    if value is None or isinstance(value, bytes):
        return value
    if isinstance(value, str):
        return value.encode("utf-8", "surrogatepass")
    if isinstance(value, bool):
        return bytes([value])
    if isinstance(value, int):
        return struct.pack(">q", value)
    if isinstance(value, float):
        return struct.pack(">d", value)
    raise EvaluationError(f"{kind(value)} has no bytes")


def _as_list(value: Any) -> Any:
    if isinstance(value, list):
        return value
    raise EvaluationError(f"needs a list, not {kind(value)}")


def _element(value: Any) -> Any:
    if isinstance(value, dict | list):
        raise EvaluationError(f"a {kind(value)} is no element")
    return value


COERCE: Mapping[str, Callable[[Any], Any]] = {
    "E": _element,
    "S": strict(str, "string"),
    "I": strict(int, "int"),
    "F": strict(float, "double"),
    "B": strict(bool, "bool"),
    "M": strict(dict, "map"),
    "L": _as_list,
    "T": strict(Time, "time"),
    "D": strict(Duration, "duration"),
    "S~": string_like,
    "I~": int_like,
    "F~": float_like,
    "B~": bool_like,
    "Y~": bytes_like,
}


def regex(pattern: Any) -> Any:
    """A compiled RE2 expression. EvaluationError where it is none."""
    from kofagent.config.re2 import compile_re2  # a configuration without patterns does not load RE2

    if not isinstance(pattern, str):
        raise EvaluationError(f"needs a string, not {kind(pattern)}")
    try:
        return compile_re2(pattern)
    except ValueError as error:
        raise EvaluationError(str(error)) from None


def glob_regex(pattern: str, separator: str = "") -> str:
    """A glob as a regular expression of the whole text, as gobwas/glob. EvaluationError.

    `*` and `?` do not mean the separator, a character, if there is one; `**` does.
    """
    one = f"[^{re.escape(separator)}]" if separator else "(?s:.)"
    many = f"{one}*" if separator else "(?s:.*)"
    out, depth, at = [], 0, 0
    while at < len(pattern):
        char = pattern[at]
        at += 1
        if char == "*" and separator and pattern.startswith("*", at):
            out.append("(?s:.*)")
            at += 1
        elif char == "*":
            out.append(many)
        elif char == "?":
            out.append(one)
        elif char == "\\" and at < len(pattern):
            out.append(re.escape(pattern[at]))
            at += 1
        elif char == "[":
            end = pattern.find("]", at + 1)
            if end < 0:
                raise EvaluationError("the glob has a [ without ]")
            inner = pattern[at:end].replace("\\", "\\\\").replace("^", "\\^").replace("[", "\\[")
            out.append("[^" + inner[1:] + "]" if inner.startswith("!") else "[" + inner + "]")
            at = end + 1
        elif char == "{":
            depth += 1
            out.append("(?:")
        elif char == "}" and depth:
            depth -= 1
            out.append(")")
        elif char == "," and depth:
            out.append("|")
        else:
            out.append(re.escape(char))
    if depth:
        raise EvaluationError("the glob has a { without }")
    return "".join(out)


def glob(pattern: Any) -> Any:
    """A compiled glob: `fullmatch` says whether a text is one of those meant."""
    if not isinstance(pattern, str):
        raise EvaluationError(f"needs a string, not {kind(pattern)}")
    return regex(glob_regex(pattern))


PREPARED: Mapping[str, Callable[[Any], Any]] = {"R": regex, "G": glob}
"""Patterns: prepared when the expression is built where they are literals, else remembered."""
