"""Upstream's match properties (`include`, `exclude`): services, resources, libraries, attributes, names, bodies, severities.

`RecordMatch` answers for one record (bytes of a LogRecord, Span or Metric) with its resource and scope (bytes). What it asks of
the resource and the scope is worked out once per distinct one. Upstream: internal/filter/filter{config,log,span,metric,matcher}.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from pydantic import Field, field_validator, model_validator

from kofagent.config.base import ComponentConfig
from kofagent.config.filterset import FilterSetBlock, compile_filterset
from kofagent.memory.memo import Memo
from kofagent.telemetry.signal import Signal
from kofagent.transform.anyvalue import as_string, number
from kofagent.transform.attribute_keys import LONGEST
from kofagent.wire import edit
from kofagent.wire.attributes import attribute_key, decode_attribute, decode_attributes, decode_text, decode_value, encode_text
from kofagent.wire.lens import lenses, parse

_lens = lenses(
    "kofagent.matching",
    {
        "Log": {"severity_number": (2, "int32"), "severity_text": (3, "bytes"), "body": (5, "bytes"), "attributes": (6, "*bytes")},
        "Span": {"name": (5, "bytes"), "kind": (6, "int32"), "attributes": (9, "*bytes")},
        "Metric": {"name": (1, "bytes")},
        "Scope": {"name": (1, "bytes"), "version": (2, "bytes")},
    },
)
_Log, _Span, _Metric, _Scope = _lens["Log"], _lens["Span"], _lens["Metric"], _lens["Scope"]

_OTHER = -1
"""What is remembered of an attribute that has another name."""
SPAN_KINDS = (
    "SPAN_KIND_UNSPECIFIED",
    "SPAN_KIND_INTERNAL",
    "SPAN_KIND_SERVER",
    "SPAN_KIND_CLIENT",
    "SPAN_KIND_PRODUCER",
    "SPAN_KIND_CONSUMER",
)
SEVERITIES = {
    f"{name}{i or ''}": 4 * level + max(i, 1)
    for level, name in enumerate(("TRACE", "DEBUG", "INFO", "WARN", "ERROR", "FATAL"))
    for i in (0, 2, 3, 4)
}
"""`INFO` is 9, `INFO2` 10 (logs data model, severity numbers)."""


def severity(value: Any) -> int:
    """The number of `9`, `"9"`, `INFO` or `info2`; ValueError with a sentence."""
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= 24:
        return value
    text = str(value).upper()
    if text.isdecimal() and int(text) <= 24:
        return int(text)
    if text not in SEVERITIES:
        raise ValueError(f"{value!r} is not a severity; write a number from 1 to 24 or TRACE, DEBUG, INFO, WARN, ERROR, FATAL")
    return SEVERITIES[text]


class AttributeBlock(ComponentConfig):
    """One attribute to match."""

    key: str = Field(min_length=1, description="Name of the attribute.")
    value: Any = Field(None, description="Its value, or a pattern; default: any.")


class LibraryBlock(ComponentConfig):
    """One instrumentation library (scope) to match."""

    name: str = Field(description="Name of the scope.")
    version: str | None = Field(None, description="Version of the scope; default: any.")


class SeverityBlock(ComponentConfig):
    """Severity numbers to match."""

    min: int = Field(
        0,
        description="Lowest severity, as a number or name (INFO); higher ones match as well.",
        json_schema_extra={"type": ["string", "integer"]},
    )
    match_undefined: bool = Field(False, description="Whether records without a severity number match.")

    @field_validator("min", mode="before")
    @classmethod
    def _known(cls, value: Any) -> Any:
        return 0 if value == "" else severity(value)


class MatchBlock(FilterSetBlock):
    """`include` or `exclude`: everything that is given must match."""

    services: list[str] = Field([], description="service.name of the resource (traces).")
    span_names: list[str] = Field([], description="Names of spans.")
    span_kinds: list[str] = Field([], description="Kinds of spans, such as SPAN_KIND_SERVER.")
    log_bodies: list[str] = Field([], description="Bodies of log records.")
    log_severity_texts: list[str] = Field([], description="Severity texts of log records.")
    log_severity_number: SeverityBlock | None = Field(None, description="Severity numbers of log records.")
    metric_names: list[str] = Field([], description="Names of metrics.")
    attributes: list[AttributeBlock] = Field([], description="Attributes that the record must have, all of them.")
    resources: list[AttributeBlock] = Field([], description="Attributes that the resource must have, all of them.")
    libraries: list[LibraryBlock] = Field([], description="Scopes that the record must have, all of them.")

    @model_validator(mode="after")
    def _patterns_compile(self) -> MatchBlock:
        if all(getattr(self, n) in ([], None) for n in type(self).model_fields if n not in FilterSetBlock.model_fields):
            raise ValueError("no property to match; set at least one, such as attributes or resources")
        check_match(self)
        if self.match_type == "strict":
            for kind in self.span_kinds:
                if kind not in SPAN_KINDS[1:]:
                    raise ValueError(f"{kind!r} is not a kind of span; write one of {', '.join(SPAN_KINDS[1:])}")
        return self


_TEXTS = ("services", "span_names", "span_kinds", "log_bodies", "log_severity_texts", "metric_names")
_FITS = {
    Signal.TRACES: {"services", "span_names", "span_kinds", "attributes", "resources", "libraries"},
    Signal.LOGS: {"log_bodies", "log_severity_texts", "log_severity_number", "attributes", "resources", "libraries"},
    Signal.METRICS: {"metric_names", "resources"},
}


def check_match(block: MatchBlock) -> None:
    """ValueError where a pattern, match_type or value is wrong."""
    for name in _TEXTS:
        if getattr(block, name):
            compile_filterset(block.match_type, getattr(block, name))
    compile_attributes(block.match_type, [*block.attributes, *block.resources])
    for library in block.libraries:
        compile_filterset(block.match_type, [library.name, library.version or ""])


def unfit(block: MatchBlock, signal: Signal) -> list[str]:
    """The given properties that have no meaning for this signal."""
    return [
        name
        for name in type(block).model_fields
        if name not in FilterSetBlock.model_fields and name not in _FITS[signal] and getattr(block, name) not in ([], None)
    ]


_AttributesTest = Callable[[Sequence[bytes]], bool]


def compile_attributes(match_type: str, wanted: Sequence[AttributeBlock]) -> _AttributesTest:
    """Whether KeyValue messages have all of these attributes; an empty list of wanted ones matches everything.

    ValueError for a missing match_type or a wrong pattern.
    """
    tests: list[_AttributesTest] = []
    for block in wanted:
        if block.value is None:
            tests.append(_attribute_test(block.key, _any))
        elif match_type == "regexp":
            if not isinstance(block.value, str):
                raise ValueError(f"the value of {block.key!r} must be a string when match_type is regexp")
            tests.append(_attribute_test(block.key, _text_test(compile_filterset("regexp", [block.value]))))
        else:
            compile_filterset(match_type, [])
            tests.append(_attribute_test(block.key, _equality(block.value)))
    return lambda pairs: all(test(pairs) for test in tests)


def _attribute_test(key: str, test: Callable[[Any], bool]) -> _AttributesTest:
    """Whether the first attribute called `key` passes; what a KeyValue message means is remembered by its bytes."""
    # hot: otlp_filter, 0.05 us an attribute that was seen before: the answer for its bytes is one look-up
    raw = encode_text(key)

    def passes(pair: bytes) -> int:
        return int(test(decode_attribute(pair)[1])) if attribute_key(pair) == raw else _OTHER

    known: Memo[bytes, int] = Memo("transform.attribute_matches", passes, entries=8192, size=1 << 20, longest=LONGEST)
    answer_of = known.__getitem__

    def matches(pairs: Sequence[bytes]) -> bool:
        for answer in map(answer_of, pairs):
            if answer != _OTHER:
                return answer == 1
        return False

    return matches


def _any(value: Any) -> bool:
    return True


def _text_test(matches: Callable[[str], bool]) -> Callable[[Any], bool]:
    def test(value: Any) -> bool:
        if isinstance(value, float):
            return matches(number(value))
        return isinstance(value, str | bool | int) and matches(as_string(value))

    return test


def _equality(wanted: Any) -> Callable[[Any], bool]:
    return lambda value: same(wanted, value)


def same(a: Any, b: Any) -> bool:
    """Equal in type and value: 1, 1.0 and True are three values."""
    if type(a) is not type(b):
        return False
    if isinstance(a, list):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    return bool(a == b)


class RecordMatch:
    """`match(resource, scope, record)` for the records of one signal; properties of other signals are not looked at."""

    def __init__(self, block: MatchBlock, signal: Signal) -> None:
        self._block = block
        type = block.match_type
        self._resource_attributes = compile_attributes(type, block.resources)
        self._services = compile_filterset(type, block.services) if block.services and signal is Signal.TRACES else None
        self._libraries = (
            []
            if signal is Signal.METRICS
            else [
                (compile_filterset(type, [b.name]), None if b.version is None else compile_filterset(type, [b.version]))
                for b in block.libraries
            ]
        )
        self._record = {Signal.LOGS: self._log, Signal.TRACES: self._span, Signal.METRICS: self._metric}[signal](block)
        self._known: Memo[tuple[bytes, bytes], bool] = Memo("transform.scope_matches", entries=8192, size=2 << 20)

    def match(self, resource: bytes, scope: bytes, record: bytes) -> bool:
        """Whether all properties match. ValueError where one of the messages is malformed."""
        around = self._known.get((resource, scope))
        if around is None:
            around = self._known.find((resource, scope))
        if around is None:
            around = self._known[resource, scope] = self._around(resource, scope)
        return around and (self._record is None or self._record(record))

    def _around(self, resource: bytes, scope: bytes) -> bool:
        pairs = edit.attributes(resource, edit.RESOURCE)
        if not self._resource_attributes(pairs):
            return False
        if self._services is not None:
            have = decode_attributes(pairs)
            if not self._services(as_string(have["service.name"]) if "service.name" in have else "<nil-service-name>"):
                return False
        view = parse(_Scope, scope)
        name, version = decode_text(view.name), decode_text(view.version)
        return all(is_name(name) and (is_version is None or is_version(version)) for is_name, is_version in self._libraries)

    @staticmethod
    def _log(block: MatchBlock) -> Callable[[bytes], bool] | None:
        bodies = compile_filterset(block.match_type, block.log_bodies) if block.log_bodies else None
        texts = compile_filterset(block.match_type, block.log_severity_texts) if block.log_severity_texts else None
        attributes = compile_attributes(block.match_type, block.attributes) if block.attributes else None
        number = block.log_severity_number
        if bodies is None and texts is None and attributes is None and number is None:
            return None

        def matches(record: bytes) -> bool:
            view = parse(_Log, record)
            if number is not None:
                level = view.severity_number
                if not (level >= number.min if level else number.match_undefined):
                    return False
            if texts is not None and not texts(decode_text(view.severity_text)):
                return False
            if bodies is not None and not bodies(as_string(decode_value(view.body))):
                return False
            return attributes is None or attributes(view.attributes)

        return matches

    @staticmethod
    def _span(block: MatchBlock) -> Callable[[bytes], bool] | None:
        names = compile_filterset(block.match_type, block.span_names) if block.span_names else None
        kinds = compile_filterset(block.match_type, block.span_kinds) if block.span_kinds else None
        attributes = compile_attributes(block.match_type, block.attributes) if block.attributes else None
        if names is None and kinds is None and attributes is None:
            return None

        def matches(record: bytes) -> bool:
            view = parse(_Span, record)
            if names is not None and not names(decode_text(view.name)):
                return False
            if kinds is not None and not kinds(SPAN_KINDS[view.kind] if 0 <= view.kind < len(SPAN_KINDS) else ""):
                return False
            return attributes is None or attributes(view.attributes)

        return matches

    @staticmethod
    def _metric(block: MatchBlock) -> Callable[[bytes], bool] | None:
        if not block.metric_names:
            return None
        names = compile_filterset(block.match_type, block.metric_names)
        return lambda record: names(decode_text(parse(_Metric, record).name))
