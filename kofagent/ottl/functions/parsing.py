"""Structured texts: JSON, key=value, CSV, patterns, severities."""

from __future__ import annotations

import json
import re
from typing import Any

from kofagent.ottl.errors import EvaluationError
from kofagent.ottl.functions.collections import _delimiters
from kofagent.ottl.functions.core import converter
from kofagent.ottl.grok import compile_grok
from kofagent.ottl.types import kind
from kofagent.transform.quoted import read_row, split_quoted

MAX_NESTING = 64
_LEADING_ZEROS = re.compile(r'("(?:\\.|[^\\"])*+(?:"|\\?\Z))|(?<![0-9.eE+-])(-?)0+(?=[0-9])', re.DOTALL)


@converter("ParseJSON(target S)")
def parse_json(target: str) -> Any:
    """The object or array that a JSON text is; its numbers are doubles."""
    try:
        try:
            value = json.loads(target, parse_int=float, parse_constant=_no_constant)
        except json.JSONDecodeError:
            # Upstream's library takes leading zeros of numbers.
            value = json.loads(_LEADING_ZEROS.sub(r"\1\2", target), parse_int=float, parse_constant=_no_constant)
    except (ValueError, RecursionError, OverflowError):
        raise EvaluationError("ParseJSON: not JSON") from None
    if not isinstance(value, dict | list):
        raise EvaluationError("ParseJSON: neither an object nor an array")
    if _deeper(value, MAX_NESTING):
        raise EvaluationError(f"ParseJSON: nested deeper than {MAX_NESTING} levels")
    return value


def _no_constant(name: str) -> Any:
    raise ValueError(name)


def _deeper(value: Any, levels: int) -> bool:
    if not isinstance(value, dict | list):
        return False
    if levels == 0:
        return True
    return any(_deeper(v, levels - 1) for v in (value.values() if isinstance(value, dict) else value))


@converter('ParseKeyValue(target S, delimiter? "s"="=", pair_delimiter? "s"= )', check=_delimiters)
def parse_key_value(target: str, delimiter: str, pair_delimiter: str | None) -> dict[str, Any]:
    """The pairs of a text such as `a=1 b="2 3"` as a map."""
    if not target:
        raise EvaluationError("ParseKeyValue: the text is empty")
    try:
        parts = split_quoted(target, " " if pair_delimiter is None else pair_delimiter)
    except ValueError as error:
        raise EvaluationError(f"ParseKeyValue: {error}") from None
    found: dict[str, Any] = {}
    for part in map(str.strip, parts):
        key, equals, value = part.partition(delimiter)
        if not equals and part:
            raise EvaluationError(f"ParseKeyValue: a pair without {delimiter!r}")
        if equals:
            found[key.strip()] = value.strip()
    return found


def _csv_literals(delimiter: str | None = None, header_delimiter: str | None = None, mode: str | None = None, **_: Any) -> None:
    for name, value in (("delimiter", delimiter), ("header_delimiter", header_delimiter)):
        if value is not None and len(value) != 1:
            raise EvaluationError(f"{name} is one character")
    if mode not in (None, "strict", "lazyQuotes", "ignoreQuotes"):
        raise EvaluationError(f"{mode!r} is no mode; known: strict, lazyQuotes, ignoreQuotes")


@converter('ParseCSV(target S, header S, delimiter? "s"=",", header_delimiter? "s", mode? "s"="strict")', check=_csv_literals)
def parse_csv(target: str, header: str, delimiter: str, header_delimiter: str | None, mode: str) -> dict[str, Any]:
    """The fields of a line under the names of a header."""
    if not header:
        raise EvaluationError("ParseCSV: the header is empty")
    names = header.split(header_delimiter or delimiter)
    target = target.strip("\r\n")
    try:
        fields = target.split(delimiter) if mode == "ignoreQuotes" else read_row(target, delimiter, mode == "lazyQuotes")
    except ValueError as error:
        raise EvaluationError(f"ParseCSV: {error}") from None
    if len(fields) != len(names):
        raise EvaluationError(f"ParseCSV: {len(fields)} fields where the header has {len(names)}")
    return dict(zip(names, fields, strict=True))


@converter("ExtractPatterns(target S, pattern R)")
def extract_patterns(target: str, pattern: Any) -> dict[str, Any]:
    """The named groups of an RE2 expression; an empty map where it is not found."""
    if not pattern.groupindex:
        raise EvaluationError("ExtractPatterns: the pattern has no named group")
    match = pattern.search(target)
    if match is None:
        return {}
    return {name: value or "" for name, value in match.groupdict().items()}


_LEVELS = ("trace", "debug", "info", "warn", "error", "fatal")


@converter("ParseSeverity(target A, mapping M#)")
def parse_severity(target: Any, mapping: dict[str, Any]) -> str:
    """The first level of the mapping whose criteria the value meets."""
    if not isinstance(target, str | int) or isinstance(target, bool):
        raise EvaluationError(f"ParseSeverity needs a string or an int, not {kind(target)}")
    for level, criteria in mapping.items():
        if not isinstance(criteria, list):
            raise EvaluationError("ParseSeverity: the mapping is of lists of criteria")
        if any(_meets(target, criterion) for criterion in criteria):
            return level
    raise EvaluationError("ParseSeverity: no criterion is met")


def _meets(target: Any, criterion: Any) -> bool:
    if not isinstance(criterion, dict) or not ({"equals", "range"} & criterion.keys()):
        raise EvaluationError("ParseSeverity: a criterion has equals or range")
    if isinstance(target, str):
        words = criterion.get("equals", [])
        if not isinstance(words, list):
            raise EvaluationError("ParseSeverity: equals is a list")
        return target in words
    span = criterion.get("range")
    if span is None:
        return False
    if isinstance(span, str):
        if not re.fullmatch("[1-5]xx", span):
            raise EvaluationError(f"ParseSeverity: unknown range {span!r}")
        return bool(int(span[0]) == target // 100)
    if not isinstance(span, dict) or not all(isinstance(span.get(end), int) for end in ("min", "max")):
        raise EvaluationError("ParseSeverity: a range has min and max")
    return bool(span["min"] <= target <= span["max"])


def _grok_literals(
    pattern: str | None = None, named_captures_only: bool | None = None, pattern_definitions: list[str] | None = None, **_: Any
) -> None:
    if pattern is not None:
        compile_grok(pattern, bool(named_captures_only), tuple(pattern_definitions or ()))


@converter(
    'ExtractGrokPatterns(target S, pattern S, named_captures_only? #b=false, pattern_definitions? ["s"])', check=_grok_literals
)
def extract_grok_patterns(target: str, pattern: str, named_only: bool, definitions: list[str] | None) -> dict[str, Any]:
    """The fields of a grok pattern; an empty map where it is not found."""
    try:
        compiled = compile_grok(pattern, named_only, tuple(definitions or ()))
    except EvaluationError:  # a literal was looked at when the statement was built
        raise EvaluationError("ExtractGrokPatterns: no valid pattern") from None
    return compiled.parse(target)
