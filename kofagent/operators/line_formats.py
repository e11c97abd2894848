"""Formats of lines, as a compiled chain parses them: each line a body, or a container runtime's line with time and stream.

A format's loop binds, for each line that is plain (not partial, nothing unusual): `body` (bytes) or `text`, and of a container's
line also `io` (`o` or `e`), `base` (Unix nanoseconds of the whole second) and `frac` (digits of nanoseconds). Other lines go
through the operators one by one, by `slow`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Any

from kofagent.memory.memo import Memo
from kofagent.operators.emit import Bound, indent
from kofagent.operators.entry import Entry
from kofagent.operators.json_text import DOUBLES
from kofagent.operators.timelayout import TimeError, gotime_layout, location_of

STREAMS = {"stdout": b"o", "stderr": b"e"}
"""Name of a stream -> how compiled chains write it, which is also the letter in the line."""
PARTIAL = re.compile(rb"[ \t]*+[^ ]++ std(?:out|err) P[: ]")
"""The beginning of a line of containerd or CRI-O that is not the last one of its message."""
# Seconds, nanoseconds (as containerd and CRI-O write them), stream, body; whether the seconds are a time is asked once for each.
_LINE = rb"(.{19})\.([0-9]{9})%s std(o|e)(?:ut|rr) F(?: |(?=\n))(.*)\n|.*\n"
_FRACTION = re.compile(r"(?:\.([0-9]+))?Z", re.ASCII).fullmatch
# What a line of Docker's that is not as usual raises on its way: no JSON, no map, a member missing or of another kind.
_UNUSUAL = (ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError)
_SECOND = gotime_layout("2006-01-02T15:04:05Z07:00", location_of("UTC", ""), {})


def _nanoseconds(text: bytes) -> int:
    try:
        return _SECOND.parse(text.decode("utf-8", "replace"))
    except TimeError:
        return -1


second = Memo("operators.seconds", _nanoseconds, entries=512, size=1 << 16).__getitem__
"""Unix nanoseconds of a time without fraction, -1 for one the operators have to refuse."""


class LineFormat:
    """`lines`, where each line is a body, `containerd`, `crio` or `docker`. `bound` has the values of the names in the loop."""

    def __init__(self, name: str, bound: Bound, tags: Mapping[str, str] | None = None) -> None:
        self.name = name
        self.bound = bound
        self.tags = dict(tags or {})
        """Attributes that the operator gives to every plain line."""

    @property
    def container(self) -> bool:
        """Whether lines have a time and a stream."""
        return self.name != "lines"

    @property
    def has_text(self) -> bool:
        """Whether the loop binds `text` together with `body`."""
        return self.name == "docker"

    def line(self, stream: str, body: str) -> str:
        """A plain line of the first second of 2000, UTC."""
        if self.name == "docker":
            return json.dumps({"log": body + "\n", "stream": stream, "time": "2000-01-01T00:00:00Z"})
        if self.container:
            return f"2000-01-01T00:00:00.000000000{'+00:00' if self.name == 'crio' else 'Z'} {stream} F {body}"
        return body

    def slow(self) -> list[str]:
        """The current line through the operators, one by one. `last = None` sends the next line the long way too."""
        if not self.container:
            return ["slow(body, observed)"]
        if self.name == "docker":
            return ["stream.position = position + stream.before", "waiting = slow(line.encode(), observed)"]
        return [
            "raw = raw or chunk.split(b'\\n')",
            "stream.position = len(raw) - 2 - remaining() + stream.before",
            "waiting = slow(raw[-2 - remaining()], observed)",
            "last = None",
        ]

    def loop(self, text: bool, counted: bool = False) -> tuple[list[str], list[str]]:
        """Statements in front of the loop, and the loop down to where `body` (`text`, where asked for) is bound.

        `counted`: the stream is told the position of each line.
        """
        if self.name == "docker":
            # Exactly the three texts: anything else is the operators' to judge.
            return ["last = None", "waiting = stream.held > 0"], [
                "for position, line in enumerate(chunk[:-1].decode().split('\\n')):",
                "    try:",
                "        if waiting or line[0] != '{':",
                "            raise ValueError",
                "        found = loads(line)",
                "        text, io, sec = found.pop('log'), streams[found.pop('stream')], found.pop('time')",
                "        if text[-1] != '\\n':",
                "            raise ValueError",
                "        text = text[:-1].removesuffix('\\r')",
                "        frac = fraction(sec[19:])[1] or ''",
                "        sec = sec[:19]",
                "        body = text.encode()",
                "        if found or (sec != last and (base := second(sec.encode() + b'Z')) < 0):",
                "            raise ValueError",
                "    except Unusual:",
                *indent(self.slow(), 2),
                "        last = None",
                "        continue",
                "    last = sec",
                "    frac = frac[:9].ljust(9, '0')",
                *(["    stream.position = position + stream.before"] if counted else []),
            ]
        if self.container:
            crio = self.name == "crio"
            seconds, groups = ("sec + zone", "sec, frac, zone, io, body") if crio else ("sec", "sec, frac, io, body")
            before = ["raw = last = None", "waiting = stream.held > 0", "lines = iter(findall(chunk))"]
            before.append("remaining = lines.__length_hint__")
            if counted:
                before.append("end = remaining() - 1 + stream.before")
            return before, [
                f"for {groups} in lines:",
                f"    if {'last is None or ' if crio else ''}{seconds} != last:",
                f"        if waiting or not sec or (base := second({'sec + zone' if crio else 'sec + b' + repr('Z')})) < 0:",
                *indent(self.slow(), 3),
                "            continue",
                f"        last = {seconds}",
                *(["    stream.position = end - remaining()"] if counted else []),
            ]
        lines = "chunk[:-1].decode().split('\\n')" if text else "chunk[:-1].split(b'\\n')"
        if counted:
            return [], [f"for position, body in enumerate({lines}):", "    stream.position = position + stream.before"]
        return [], [f"for body in {lines}:"]


def _cri(zone: bytes) -> Bound:
    return {"findall": re.compile(_LINE % zone).findall, "second": second}


FORMATS = {
    "lines": LineFormat("lines", {}),
    "containerd": LineFormat("containerd", _cri(b"Z"), {"logtag": "F"}),
    "crio": LineFormat("crio", _cri(rb"([+-][0-9]{2}:[0-9]{2})"), {"logtag": "F"}),
    "docker": LineFormat(
        "docker",
        {"loads": DOUBLES.decode, "fraction": _FRACTION, "streams": STREAMS, "Unusual": _UNUSUAL, "second": second},
    ),
}


def format_of(chunk: bytes) -> LineFormat | None:
    """The container's format that the first line of a chunk has; None for a line of none."""
    if chunk[:1] == b"{":
        return FORMATS["docker"]
    end = chunk.find(b"\n") + 1
    for name in ("containerd", "crio"):
        if any(FORMATS[name].bound["findall"](chunk, 0, end)[0]):
            return FORMATS[name]
    return None


class LineParser:
    """What an operator at the beginning of a chain does with the plain lines of a format, for the compiler to do it ahead.

    `format` is empty where it is found from the lines. `apply` changes an entry as the operator changes that of any plain line,
    apart from time, body and stream; OperatorError where it fails on all of them.
    """

    def __init__(self, format: str, apply: Callable[[Entry], None]) -> None:
        self.format = format
        self.apply = apply

    def attributes(self, format: LineFormat, entry: Entry) -> dict[bytes, dict[str, Any]]:
        """Letter of the stream -> attributes of its lines, for an entry that `apply` has changed."""
        return {io: {**entry.attributes, **format.tags, "log.iostream": name} for name, io in STREAMS.items()}
