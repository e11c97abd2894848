"""`Entry`: one log record on its way through the operators, as stanza's entry.Entry."""

from __future__ import annotations

from typing import Any

SEVERITY_TEXT = (
    "",
    "TRACE",
    "TRACE2",
    "TRACE3",
    "TRACE4",
    "DEBUG",
    "DEBUG2",
    "DEBUG3",
    "DEBUG4",
    "INFO",
    "INFO2",
    "INFO3",
    "INFO4",
    "WARN",
    "WARN2",
    "WARN3",
    "WARN4",
    "ERROR",
    "ERROR2",
    "ERROR3",
    "ERROR4",
    "FATAL",
    "FATAL2",
    "FATAL3",
    "FATAL4",
)
"""The text of each severity number of OTLP's log data model, 0 to 24."""


class Entry:
    """A log record that operators change in place.

    `timestamp` and `observed` are Unix nanoseconds (`timestamp` None: none was parsed). `body` and the values of
    `attributes` and `resource` are str, bool, int, float, bytes, None, or lists and dicts of them; keys are str.
    `severity` is OTLP's number, 0 to 24. `lifted` is set by the compiler only: results of work on the body that was done ahead.
    """

    __slots__ = (
        "attributes",
        "body",
        "flags",
        "lifted",
        "observed",
        "resource",
        "scope",
        "severity",
        "severity_text",
        "span_id",
        "timestamp",
        "trace_id",
    )

    def __init__(self, body: Any, attributes: dict[str, Any], resource: dict[str, Any], observed: int) -> None:
        self.body = body
        self.attributes = attributes
        self.resource = resource
        self.observed = observed
        self.timestamp: int | None = None
        self.severity = 0
        self.severity_text = ""
        self.trace_id = b""
        self.span_id = b""
        self.flags = b""
        self.scope = ""
        self.lifted: dict[Any, Any] | None = None

    def copy(self) -> Entry:
        """An entry that shares no dict or list with this one."""
        other = Entry(deep(self.body), deep(self.attributes), deep(self.resource), self.observed)
        other.timestamp = self.timestamp
        other.copy_rest(self)
        return other

    def copy_rest(self, other: Entry) -> None:
        """Takes what is immutable and neither a time nor the body: severity, trace, scope, and what was done ahead."""
        self.severity = other.severity
        self.severity_text = other.severity_text
        self.trace_id = other.trace_id
        self.span_id = other.span_id
        self.flags = other.flags
        self.scope = other.scope
        self.lifted = other.lifted


def deep(value: Any) -> Any:
    """A copy of a value's dicts and lists; the leaves are immutable."""
    if isinstance(value, dict):
        return {k: deep(v) for k, v in value.items()}
    if isinstance(value, list):
        return [deep(v) for v in value]
    return value
