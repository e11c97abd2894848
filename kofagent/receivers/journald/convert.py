"""Entries as log records: the map of fields that `journalctl -o json` shows, or attributes of OpenTelemetry's conventions."""

from __future__ import annotations

import re
from collections.abc import Sequence
from struct import Struct
from typing import Any

from kofagent.operators.encode import key_values
from kofagent.operators.entry import Entry as LogEntry
from kofagent.receivers.journald.cursor import Cursor
from kofagent.receivers.journald.fields import Field
from kofagent.receivers.journald.file import Entry
from kofagent.wire.varint import varint

_times = Struct("<BQBQ").pack
SEVERITIES = {
    "0": (21, "emerg"),
    "1": (19, "alert"),
    "2": (18, "crit"),
    "3": (17, "err"),
    "4": (13, "warning"),
    "5": (10, "notice"),
    "6": (9, "info"),
    "7": (5, "debug"),
}
"""PRIORITY -> OTLP's number and text."""
ATTRIBUTES = {
    "CODE_FILE": "code.file.path",
    "CODE_FUNC": "code.function.name",
    "CODE_LINE": "code.line.number",
    "TID": "thread.id",
    "SYSLOG_FACILITY": "syslog.facility.code",
    "SYSLOG_IDENTIFIER": "syslog.msg.id",
    "SYSLOG_PID": "syslog.pid",
    "ERRNO": "system.errno",
}
RESOURCE = {
    "_HOSTNAME": "host.name",
    "_PID": "process.pid",
    "_COMM": "process.command",
    "_EXE": "process.executable.path",
    "_CMDLINE": "process.command_line",
}
_NUMBERS = {"code.line.number", "thread.id", "syslog.facility.code", "syslog.pid", "process.pid", "system.errno"}


def body(entry: Entry, place: Cursor, fields: Sequence[Field]) -> dict[str, Any]:
    """The map of an entry; a field with several values has a list of them."""
    out: dict[str, Any] = {
        "__CURSOR": str(place),
        "__MONOTONIC_TIMESTAMP": str(entry.monotonic),
        "_BOOT_ID": entry.boot_id.hex(),
    }
    several: set[str] = set()
    for field in fields:
        name = field.name
        if not name:
            continue
        if name not in out:
            out[name] = field.value
        elif name in several:
            out[name].append(field.value)
        else:
            several.add(name)
            out[name] = [out[name], field.value]
    return out


def record(entry: Entry, place: Cursor, fields: Sequence[Field], rest: bytes, observed_ns: int) -> bytes | None:
    """The bytes of `ScopeLogs.log_records` with the map of an entry; `rest` are its attributes. None where a field has several
    values. The fields are encoded already, so that it is a concatenation.
    """
    # hot: journal_entry, the map is never made
    names = [field.name for field in fields if field.name]
    if len(set(names)) < len(names):
        return None
    head = key_values(
        {"__CURSOR": str(place), "__MONOTONIC_TIMESTAMP": str(entry.monotonic), "_BOOT_ID": entry.boot_id.hex()}, b"\x0a"
    )
    members = b"".join([head, *[field.encoded for field in fields]])
    inner = varint(len(members))
    size = varint(1 + len(inner) + len(members))
    parts = (b"\x2a", size, b"\x32", inner, members, rest, _times(9, entry.realtime * 1000, 0x59, observed_ns))
    return b"\x12" + varint(sum(map(len, parts))) + b"".join(parts)


def conventional(entry: LogEntry) -> None:
    """`convert_to_semantic_conventions`: makes body, severity, attributes and resource of the map."""
    content, entry.body = entry.body, None
    for name, value in content.items():
        if name == "MESSAGE":
            entry.body = value
        elif name == "PRIORITY":
            if isinstance(value, str) and value in SEVERITIES:
                entry.severity, entry.severity_text = SEVERITIES[value]
        elif name in ATTRIBUTES:
            entry.attributes[ATTRIBUTES[name]] = _number(ATTRIBUTES[name], value)
        elif name in RESOURCE:
            entry.resource[RESOURCE[name]] = _number(RESOURCE[name], value)
        else:
            entry.attributes[f"journald.{name}"] = value


_INT64 = re.compile(r"[+-]?[0-9]{1,18}")


def _number(name: str, value: Any) -> Any:
    """The value as a number where the convention has one, and it is one."""
    return int(value) if name in _NUMBERS and isinstance(value, str) and _INT64.fullmatch(value) else value
