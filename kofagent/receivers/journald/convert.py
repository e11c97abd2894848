"""Entries as log records: the map of fields that `journalctl -o json` shows, or attributes of OpenTelemetry's conventions."""

from __future__ import annotations

import re
from collections.abc import Sequence
from struct import Struct
from typing import Any

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


class Assembler:
    """Puts the bytes of `ScopeLogs.log_records` together of the fields of an entry, which are encoded already: the map is not made.

    `rest` are the attributes.
    """

    def __init__(self, rest: bytes) -> None:
        self._rest = rest
        self._of = (b"", b"")
        self._cursor = self._boot = b""

    def record(self, place: Cursor, fields: Sequence[Field], observed_ns: int) -> bytes | None:
        """The record with the map of an entry; None where a field may have several values."""
        # hot: journal_entry, one join of what is there
        if len({field[0] for field in fields}) < len(fields):
            return None
        seqnum_id, seqnum, boot_id, monotonic, realtime, xor_hash = place
        if (seqnum_id, boot_id) != self._of:
            # as str(place)
            self._of = (seqnum_id, boot_id)
            boot = boot_id.hex().encode()
            self._cursor = b"s=%b;i=%%x;b=%b;m=%%x;t=%%x;x=%%x" % (seqnum_id.hex().encode(), boot)
            self._boot = _element(b"\x0a\x08_BOOT_ID\x12", boot)
        cursor = _element(b"\x0a\x08__CURSOR\x12", self._cursor % (seqnum, monotonic, realtime, xor_hash))
        clock = _element(b"\x0a\x15__MONOTONIC_TIMESTAMP\x12", b"%d" % monotonic)
        members = b"".join([cursor, clock, self._boot, *[field[3] for field in fields]])
        inner = varint(len(members))
        size = varint(1 + len(inner) + len(members))
        data = b"".join((b"\x2a", size, b"\x32", inner, members, self._rest, _times(9, realtime * 1000, 0x59, observed_ns)))
        return b"\x12" + varint(len(data)) + data


def _element(name: bytes, text: bytes) -> bytes:
    """An element of a KeyValueList; `name` is encoded up to the tag of the value."""
    value = b"\x0a" + varint(len(text)) + text
    pair = name + varint(len(value)) + value
    return b"\x0a" + varint(len(pair)) + pair


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
