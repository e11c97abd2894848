"""Times and durations."""

from __future__ import annotations

import re
import time
from datetime import UTC, datetime, timedelta
from typing import Any

from kofagent.ottl.errors import EvaluationError
from kofagent.ottl.functions.core import converter
from kofagent.ottl.strptime import layout, zone
from kofagent.ottl.types import Duration, Time, wrap

_SECOND = 10**9
_UNITS = {
    "ns": 1,
    "us": 10**3,
    "\u00b5s": 10**3,
    "\u03bcs": 10**3,
    "ms": 10**6,
    "s": _SECOND,
    "m": 60 * _SECOND,
    "h": 3600 * _SECOND,
}
_PART = re.compile(r"([0-9]{0,20})(?:\.([0-9]{0,20}))?(ns|us|\u00b5s|\u03bcs|ms|s|m|h)")


@converter("Now()")
def now() -> Time:
    """The present time."""
    return Time(time.time_ns())


@converter("Duration(duration S)")
def duration(text: str) -> Duration:
    """A duration such as 1h30m or -2.5s."""
    sign, rest = (-1 if text[:1] == "-" else 1), text[1:] if text[:1] in ("-", "+") else text
    if rest == "0":
        return Duration(0)
    total, at = 0, 0
    while at < len(rest):
        match = _PART.match(rest, at)
        if match is None or not (match[1] or match[2]):
            break
        unit = _UNITS[match[3]]
        total += int(match[1] or 0) * unit + int(match[2] or 0) * unit // 10 ** len(match[2] or "")
        at = match.end()
    if not rest or at < len(rest) or total >= 1 << 63:
        raise EvaluationError("Duration: not a duration, such as 1h30m or 10s")
    return Duration(sign * total)


@converter("Unix(seconds I, nanoseconds? I=0)")
def unix(seconds: int, nanoseconds: int) -> Time:
    """The time so many seconds and nanoseconds after 1970."""
    return Time(seconds * _SECOND + nanoseconds)


@converter("UnixNano(time T)")
def unix_nano(at: Time) -> int:
    """Nanoseconds since 1970."""
    return wrap(at.ns)


@converter("UnixMicro(time T)")
def unix_micro(at: Time) -> int:
    """Microseconds since 1970."""
    return at.ns // 10**3


@converter("UnixMilli(time T)")
def unix_milli(at: Time) -> int:
    """Milliseconds since 1970."""
    return at.ns // 10**6


@converter("UnixSeconds(time T)")
def unix_seconds(at: Time) -> int:
    """Seconds since 1970."""
    return at.ns // _SECOND


def _calendar(at: Time) -> datetime:
    try:
        when = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=at.ns // _SECOND)
        return when.astimezone(at.zone) if at.zone is not None else when
    except OverflowError:
        raise EvaluationError("the time is outside of the years 1 to 9999") from None


@converter("Year(time T)")
def year(at: Time) -> int:
    """The year."""
    return _calendar(at).year


@converter("Month(time T)")
def month(at: Time) -> int:
    """The month, from 1."""
    return _calendar(at).month


@converter("Day(time T)")
def day(at: Time) -> int:
    """The day of the month."""
    return _calendar(at).day


@converter("Weekday(time T)")
def weekday(at: Time) -> int:
    """The day of the week; 0 is Sunday."""
    return _calendar(at).isoweekday() % 7


@converter("Hour(time T)")
def hour(at: Time) -> int:
    """The hour."""
    return _calendar(at).hour


@converter("Minute(time T)")
def minute(at: Time) -> int:
    """The minute."""
    return _calendar(at).minute


@converter("Second(time T)")
def second(at: Time) -> int:
    """The second."""
    return _calendar(at).second


@converter("Nanosecond(time T)")
def nanosecond(at: Time) -> int:
    """Nanoseconds of the second."""
    return at.ns % _SECOND


@converter("Hours(duration D)")
def hours(span: Duration) -> float:
    """Hours, with a fraction."""
    return span.ns / (3600 * _SECOND)


@converter("Minutes(duration D)")
def minutes(span: Duration) -> float:
    """Minutes, with a fraction."""
    return span.ns / (60 * _SECOND)


@converter("Seconds(duration D)")
def seconds_of(span: Duration) -> float:
    """Seconds, with a fraction."""
    return span.ns / _SECOND


def _cut(value: int, unit: int) -> int:
    return value // unit if value >= 0 else -(-value // unit)


@converter("Milliseconds(duration D)")
def milliseconds(span: Duration) -> int:
    """Whole milliseconds."""
    return _cut(span.ns, 10**6)


@converter("Microseconds(duration D)")
def microseconds(span: Duration) -> int:
    """Whole microseconds."""
    return _cut(span.ns, 10**3)


@converter("Nanoseconds(duration D)")
def nanoseconds_of(span: Duration) -> int:
    """Nanoseconds."""
    return span.ns


_YEAR_1 = 62135596800 * _SECOND
"""From Go's zero time, of which truncated times are multiples, to 1970."""


@converter("TruncateTime(time T, duration D)")
def truncate_time(at: Time, span: Duration) -> Time:
    """The time cut down to a multiple of the duration."""
    return at if span.ns <= 0 else Time(at.ns - (at.ns + _YEAR_1) % span.ns, at.zone)


def _format(format: str | None = None, location: str | None = None, **_: Any) -> None:
    if format is not None:
        layout(format)
    if location:
        zone(location)


@converter('Time(time S, format "s", location? "s", locale? "s")', check=_format)
def parse_time(text: str, form: str, location: str | None, locale: str | None) -> Time:
    """The time that a text of a strptime format is."""
    ns, where = layout(form).parse(text, zone(location) if location else None)
    return Time(ns, where)


@converter('FormatTime(time T, format "s")', check=_format)
def format_time(at: Time, form: str) -> str:
    """The time as text of a strptime format."""
    return layout(form).format(_calendar(at), at.ns % _SECOND)
