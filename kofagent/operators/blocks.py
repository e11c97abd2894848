"""Blocks that are operators and can also be embedded in a parser: severity, timestamp, trace, scope_name."""

from __future__ import annotations

from datetime import tzinfo
from typing import Any, Literal

from pydantic import Field as Option
from pydantic import PrivateAttr, model_validator

from kofagent.config.base import ComponentConfig
from kofagent.operators.entry import SEVERITY_TEXT, Entry
from kofagent.operators.errors import OperatorError, type_name
from kofagent.operators.field import MISSING, Field
from kofagent.operators.options import AnyField
from kofagent.operators.timelayout import (
    Layout,
    TimeError,
    epoch_nanoseconds,
    gotime_layout,
    location_of,
    strptime_layout,
)

_LEVELS = {text.lower(): number for number, text in enumerate(SEVERITY_TEXT) if text}
_LEVELS.update({str(number): number for number in range(1, 25)})
_CLASSES = {f"{n}xx": (n * 100, n * 100 + 99) for n in (2, 3, 4, 5)}


def _values(value: Any) -> list[str]:
    if isinstance(value, bool):
        # YAML reads a bare `off` or `yes` as a boolean; upstream refuses it too.
        raise ValueError(f"mapping: {value!r} is a boolean; quote it")
    if isinstance(value, int):
        return [str(value)]
    if isinstance(value, str):
        low, high = _CLASSES.get(value, (0, -1))
        return [str(n) for n in range(low, high + 1)] or [value.lower()]
    if isinstance(value, dict) and isinstance(value.get("min"), int) and isinstance(value.get("max"), int):
        low, high = sorted((value["min"], value["max"]))
        if high - low > 100_000:
            raise ValueError(f"mapping: the range {low} to {high} is too long")
        return [str(n) for n in range(low, high + 1)]
    raise ValueError(f"mapping: {value!r} is not a value; write a string, an integer, 2xx to 5xx, or a range with min and max")


class SeverityBlock(ComponentConfig):
    """`severity`: finds a value in a table of severities (docs/types/severity.md)."""

    parse_from: AnyField = Option(description="Field with the level.")
    preset: str = Option("default", description="Table to begin with: default, otel (or aliases), none.")
    mapping: dict[str | int, Any] = Option({}, description="Severity -> values that mean it (strings, integers, ranges, 2xx).")
    overwrite_text: bool = Option(False, description="Write the standard name of the severity instead of the value found.")
    _table: dict[str, int] = PrivateAttr(default_factory=dict)

    @model_validator(mode="after")
    def _build(self) -> SeverityBlock:
        table: dict[str, int] = {}
        if self.preset != "none":
            table.update(_LEVELS)
            if self.preset not in ("otel", "aliases"):
                for n, suffix in enumerate(("", "2", "3", "4")):
                    table["warning" + suffix] = 13 + n
                    table["err" + suffix] = 17 + n
        for severity, values in self.mapping.items():
            number = _LEVELS.get(str(severity).lower(), 0)
            for value in values if isinstance(values, list) else [values]:
                for text in _values(value):
                    table[text] = number
        self._table = table
        return self

    def apply(self, entry: Entry) -> None:
        """Sets severity and its text; OperatorError without the field or for a value of the wrong type."""
        value = self.parse_from.get(entry)
        if value is MISSING:
            raise OperatorError(f"the entry has no {self.parse_from}")
        if isinstance(value, float) and value.is_integer():
            text = str(int(value))
        elif isinstance(value, int) and not isinstance(value, bool):
            text = str(value)
        elif isinstance(value, str):
            text = value
        elif isinstance(value, bytes):
            text = value.decode("utf-8", "replace")
        else:
            raise OperatorError(f"{type_name(value)} cannot be a severity")
        number = self._table.get(text.lower(), 0)
        entry.severity = number
        entry.severity_text = SEVERITY_TEXT[number] if self.overwrite_text and number else text


class TimestampBlock(ComponentConfig):
    """`timestamp`: parses a time (docs/types/timestamp.md)."""

    parse_from: AnyField = Option(description="Field with the time.")
    layout: str = Option("", description="Layout of the time.")
    layout_type: Literal["strptime", "gotime", "epoch", "native", ""] = Option("strptime", description="Kind of layout.")
    location: str = Option("", description="IANA name of the zone of times without one; empty: UTC after a Z, else local.")
    time_zone_locations: dict[str, str] = Option({}, description="Zone abbreviation -> IANA name.")
    _layout: Layout | None = PrivateAttr(default=None)
    _zones: dict[str, tzinfo | None] = PrivateAttr(default_factory=dict)

    @model_validator(mode="after")
    def _build(self) -> TimestampBlock:
        kind = self.layout_type or "strptime"
        if kind == "native":
            return self
        if not self.layout:
            raise ValueError("layout is missing")
        if kind == "epoch":
            if self.layout not in ("s", "ms", "us", "ns", "s.ms", "s.us", "s.ns"):
                raise ValueError(f"layout {self.layout!r}: an epoch layout is one of s, ms, us, ns, s.ms, s.us, s.ns")
            return self
        location = location_of(self.location, self.layout)
        zones = {name: location_of(zone, "") for name, zone in self.time_zone_locations.items()}
        if zones and ("%Z" if kind == "strptime" else "MST") not in self.layout:
            raise ValueError("time_zone_locations needs a zone abbreviation in the layout (%Z, or MST for gotime)")
        make = strptime_layout if kind == "strptime" else gotime_layout
        self._layout = make(self.layout, location, zones)
        return self

    def apply(self, entry: Entry) -> None:
        """Sets the time; OperatorError without the field or for a value that is no such time."""
        value = self.parse_from.get(entry)
        if value is MISSING:
            raise OperatorError(f"the entry has no {self.parse_from}")
        try:
            if self._layout is not None:
                if isinstance(value, bytes):
                    value = value.decode("utf-8", "replace")
                if not isinstance(value, str):
                    raise OperatorError(f"{type_name(value)} cannot be parsed as a time")
                entry.timestamp = self._layout.parse(value)
            elif self.layout_type == "native":
                if not isinstance(value, int):
                    raise OperatorError(f"{type_name(value)} is not a time")
                entry.timestamp = value
            else:
                entry.timestamp = epoch_nanoseconds(self.layout, value)
        except TimeError as error:
            raise OperatorError(str(error)) from None


class TraceFieldBlock(ComponentConfig):
    """One id of `trace`."""

    parse_from: AnyField | None = Option(None, description="Field with the id in hexadecimal.")


class TraceBlock(ComponentConfig):
    """`trace`: parses trace id, span id and flags (docs/types/trace.md)."""

    trace_id: TraceFieldBlock | None = Option(None, description="The trace id; default field body.trace_id.")
    span_id: TraceFieldBlock | None = Option(None, description="The span id; default field body.span_id.")
    trace_flags: TraceFieldBlock | None = Option(None, description="The flags; default field body.trace_flags.")
    _fields: tuple[Field, ...] = PrivateAttr(default=())

    @model_validator(mode="after")
    def _build(self) -> TraceBlock:
        # The defaults are written into the options, where `Access.of` finds the fields that are read.
        fields = []
        for name in ("trace_id", "span_id", "trace_flags"):
            given: TraceFieldBlock | None = getattr(self, name)
            field = given.parse_from if given is not None and given.parse_from is not None else Field("body", (name,))
            setattr(self, name, TraceFieldBlock(parse_from=field))
            fields.append(field)
        self._fields = tuple(fields)
        return self

    def apply(self, entry: Entry) -> None:
        """Sets the ids that are there; OperatorError when one is not hexadecimal (the others are set)."""
        bad = []
        found = []
        for field in self._fields:
            value = field.get(entry)
            try:
                found.append(b"" if value is MISSING else bytes.fromhex(_plain(value)))
            except ValueError:
                found.append(b"")
                bad.append(str(field))
        entry.trace_id, entry.span_id, entry.flags = found
        if bad:
            raise OperatorError(f"not hexadecimal: {', '.join(bad)}")


def _plain(value: Any) -> str:
    text = str(value)
    if not text.isalnum():
        # bytes.fromhex skips blanks, a hexadecimal id has none.
        raise ValueError("not hexadecimal")
    return text


class ScopeNameBlock(ComponentConfig):
    """`scope_name`: the name of the instrumentation scope (docs/types/scope_name.md)."""

    parse_from: AnyField = Option(description="Field with the name.")

    def apply(self, entry: Entry) -> None:
        """Sets the scope's name; OperatorError without the field or when it is not a string."""
        value = self.parse_from.get(entry)
        if value is MISSING:
            raise OperatorError(f"the entry has no {self.parse_from}")
        if not isinstance(value, str):
            raise OperatorError(f"{type_name(value)} cannot be the name of a scope")
        entry.scope = value
