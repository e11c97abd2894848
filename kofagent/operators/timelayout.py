"""Layouts of times: strptime directives (docs/types/timestamp.md), Go's reference time (pkg.go.dev/time#Layout), epochs.

A layout becomes one regular expression of our own making and a conversion to Unix nanoseconds. What Go's parser allows is
allowed: a fraction behind the seconds that the layout does not name, runs of blanks, names in any case.
"""

from __future__ import annotations

import math
import re
import time
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from functools import lru_cache
from typing import Any, Final
from zoneinfo import ZoneInfo

_MONTHS: Final = (
    "january",
    "february",
    "march",
    "april",
    "may",
    "june",
    "july",
    "august",
    "september",
    "october",
    "november",
    "december",
)
_DAYS: Final = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
_LONG_MONTH = "(" + "|".join(_MONTHS) + ")"
_SHORT_MONTH = "(" + "|".join([m[:3] for m in _MONTHS]) + ")"
_ZONE = "(UTC|GMT(?:[+-][0-9]{1,2})?|[+-][0-9]{2}(?:[0-9]{2})?|ChST|MeST|[A-Z]{3,5})"
_NEAR_MONTHS = 13
"""An abbreviation that a zone uses is used within a year."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

# kind -> regular expression with one group (or none)
_PARTS: Final = {
    "year": "([0-9]{4})",
    "year2": "([0-9]{2})",
    "month": "([0-9]{1,2})",
    "month02": "([0-9]{2})",
    "month_name": _LONG_MONTH,
    "month_short": _SHORT_MONTH,
    "day": "([0-9]{1,2})",
    "day02": "([0-9]{2})",
    "day_space": " *([0-9]{1,2})",
    "yearday": "([0-9]{3})",
    "weekday": "(?:" + "|".join(_DAYS) + ")",
    "weekday_short": "(?:" + "|".join([d[:3] for d in _DAYS]) + ")",
    "hour": "([0-9]{1,2})",
    "hour12": "([0-9]{1,2})",
    "hour12_02": "([0-9]{2})",
    "minute": "([0-9]{1,2})",
    "minute02": "([0-9]{2})",
    "second": "([0-9]{1,2})",
    "second02": "([0-9]{2})",
    "ampm": "(am|pm)",
    "zone": _ZONE,
    "fraction_any": "(?:[.,]([0-9]+))?",
    "offset": "([+-][0-9]{2}[0-9]{2})",
    "offset_colon": "([+-][0-9]{2}:[0-9]{2})",
    "offset_hour": "([+-][0-9]{2})",
    "offset_seconds": "([+-][0-9]{6})",
    "offset_colons": "([+-][0-9]{2}:[0-9]{2}:[0-9]{2})",
    "offset_loose": "(Z|[+-][0-9]{2}(?::?[0-9]{2}(?::?[0-9]{2})?)?)",
}
_STRPTIME: Final = {
    "Y": ("year",),
    "y": ("year2",),
    "m": ("month",),
    "o": ("month",),
    "q": ("month",),
    "b": ("month_short",),
    "h": ("month_short",),
    "B": ("month_name",),
    "d": ("day",),
    "e": ("day",),
    "g": ("day",),
    "a": ("weekday_short",),
    "A": ("weekday",),
    "H": ("hour",),
    "l": ("hour12",),
    "I": ("hour12",),
    "p": ("ampm",),
    "P": ("ampm",),
    "M": ("minute",),
    "S": ("second",),
    "L": ("digits",),
    "f": ("digits",),
    "s": ("digits",),
    "Z": ("zone",),
    "z": ("offset_loose",),
    "w": ("offset_seconds",),
    "i": ("offset_hour",),
    "j": ("offset_colon",),
    "k": ("offset_colons",),
    "D": ("month", "/", "day", "/", "year_any"),
    "x": ("month", "/", "day", "/", "year_any"),
    "F": ("year", "-", "month", "-", "day"),
    "T": ("hour", ":", "minute", ":", "second"),
    "X": ("hour", ":", "minute", ":", "second"),
    "r": ("hour12", ":", "minute", ":", "second", " ", "ampm"),
    "R": ("hour", ":", "minute"),
    "n": ("\n",),
    "t": ("\t",),
    "%": ("%",),
    "c": ("weekday_short", " ", "month_short", " ", "day", " ", "hour", ":", "minute", ":", "second", " ", "year"),
}
_GO = re.compile(
    r"January|Jan|Monday|Mon|MST|2006|Z070000|Z07:00:00|Z0700|Z07:00|Z07|-070000|-07:00:00|-0700|-07:00|-07"
    r"|01|002|02|03|04|05|06|__2|_2006|_2|15|1|2|3|4|5|PM|pm|[.,]0+(?![0-9])|[.,]9+(?![0-9])"
)
_GO_KINDS: Final = {
    "January": "month_name",
    "Jan": "month_short",
    "Monday": "weekday",
    "Mon": "weekday_short",
    "MST": "zone",
    "2006": "year",
    "-070000": "offset_seconds",
    "-07:00:00": "offset_colons",
    "-0700": "offset",
    "-07:00": "offset_colon",
    "-07": "offset_hour",
    "01": "month02",
    "002": "yearday",
    "02": "day02",
    "03": "hour12_02",
    "04": "minute02",
    "05": "second02",
    "06": "year2",
    "__2": "yearday",
    "_2": "day_space",
    "15": "hour",
    "1": "month",
    "2": "day",
    "3": "hour12",
    "4": "minute",
    "5": "second",
    "PM": "ampm",
    "pm": "ampm",
}


class TimeError(ValueError):
    """The string is not a time of this layout."""


class Layout:
    """A layout ready to parse. `location` is the zone of times without one; None is that of this machine."""

    def __init__(self, parts: list[tuple[str, str]], location: tzinfo | None, zones: dict[str, tzinfo | None]) -> None:
        self.location = location
        self.zones = zones
        self.kinds: list[str] = []
        out = []
        for i, (kind, source) in enumerate(parts):
            if kind == "literal":
                out.append(" +".join([re.escape(p) for p in re.split(" +", source)]))
                continue
            # Blanks are taken in one place: two repetitions of them in a row would share a run of blanks in every way there is.
            out.append(source.removeprefix(" *") if out and out[-1].endswith(" +") else source)
            if re.compile(source).groups:
                self.kinds.append(kind)
            following = parts[i + 1][0] if i + 1 < len(parts) else ""
            lead = parts[i + 1][1] if following == "literal" else ""
            has_fraction = following.startswith("fraction") or (
                lead in (".", ",") and i + 2 < len(parts) and parts[i + 2][0] == "fraction"
            )
            if kind.startswith("second") and not has_fraction:
                # Go takes a fraction behind the seconds whether the layout has one or not.
                out.append(_PARTS["fraction_any"])
                self.kinds.append("fraction")
        self._match = re.compile("".join(out), re.IGNORECASE | re.ASCII).fullmatch
        self._seen: dict[str, int] = {}

    def parse(self, text: str) -> int:
        """Unix nanoseconds; TimeError when the string does not fit or is not a possible time."""
        match = self._match(text)
        if match is None:
            raise TimeError("the value does not fit the layout")
        return self._nanoseconds(dict(zip(self.kinds, match.groups(), strict=True)), text)

    def _nanoseconds(self, found: dict[str, str | None], text: str) -> int:
        year, month, day, hour, minute, second, nanosecond = 0, 1, 1, 0, 0, 0, 0
        afternoon: bool | None = None
        offset: tzinfo | None = None
        yearday = 0
        zone_name = ""
        for kind, value in found.items():
            if value is None:
                continue
            if kind.startswith("year"):
                if kind == "yearday":
                    yearday = int(value)
                else:
                    year = int(value)
                    if len(value) == 2:
                        year += 1900 if year >= 69 else 2000
            elif kind in ("month_name", "month_short"):
                month = 1 + [m[:3] for m in _MONTHS].index(value[:3].lower())
            elif kind.startswith("month"):
                month = int(value)
            elif kind.startswith("day"):
                day = int(value)
            elif kind.startswith("hour"):
                hour = int(value)
            elif kind.startswith("minute"):
                minute = int(value)
            elif kind.startswith("second"):
                second = int(value)
            elif kind.startswith("fraction"):
                nanosecond = int(value[:9].ljust(9, "0"))
            elif kind == "ampm":
                afternoon = value.lower() == "pm"
            elif kind.startswith("offset"):
                offset = _offset(value)
            elif kind == "zone":
                zone_name = value
        if afternoon is not None:
            if not 1 <= hour <= 12:
                raise TimeError("the hour is not between 1 and 12")
            hour = hour % 12 + (12 if afternoon else 0)
        if zone_name:
            offset = self._zone(zone_name, year or datetime.now().year, month)
        if self.zones and offset is None:
            offset = next((z for name, z in self.zones.items() if re.search(rf"\b{re.escape(name)}\b", text)), None)
        zone = offset or self.location
        try:
            if year == 0:
                when = _this_year(datetime(2000, month, day, hour, minute, second, tzinfo=zone))
            else:
                when = datetime(year, month, day, hour, minute, second, tzinfo=zone)
            if yearday:
                when += timedelta(days=yearday - 1)
            if zone is None:
                when = when.astimezone()
            delta = when - _EPOCH
        except (ValueError, OverflowError):
            raise TimeError("the value is not a valid time") from None
        return (delta.days * 86400 + delta.seconds) * 1_000_000_000 + nanosecond

    def _zone(self, name: str, year: int, month: int) -> tzinfo | None:
        """The zone of this name, about this month: abbreviations are those of `location`, in winter and in summer."""
        if name in self.zones:
            location = self.zones[name]
            return _abbreviations(location, time.tzname, year, month).get(name, location)
        upper = name.upper()
        if upper in ("UTC", "GMT", "Z"):
            return UTC
        if name[0] in "+-":
            return _offset(name)
        if upper.startswith("GMT"):
            return timezone(timedelta(hours=int(name[3:])))
        zone = _abbreviations(self.location, time.tzname, year, month).get(name) or _named(name)
        if zone is None:
            raise TimeError(f"the zone {name} is unknown")
        return zone


@lru_cache(maxsize=256)
def _abbreviations(location: tzinfo | None, local: tuple[str, str], year: int, month: int) -> dict[str, tzinfo]:
    """The abbreviations of a zone (None: this machine's, whose present ones are `local`) and the offsets they mean.

    One that the zone has used with several offsets has the one that is nearest in time.
    """
    found: dict[str, tzinfo] = {}
    for distance in range(_NEAR_MONTHS):
        for index in dict.fromkeys((year * 12 + month - 1 - distance, year * 12 + month - 1 + distance)):
            try:
                when = datetime(index // 12, index % 12 + 1, 15, tzinfo=location)
                if location is None:
                    when = when.astimezone()
                name, offset = when.tzname(), when.utcoffset()
            except (ValueError, OverflowError, OSError):
                continue
            if name and offset is not None and name not in found:
                found[name] = timezone(offset)
    return found


@lru_cache(maxsize=64)
def _named(name: str) -> tzinfo | None:
    if name == "UTC":
        return UTC  # known also where there is no time zone database, as in small images
    try:
        return ZoneInfo(name)
    except (ValueError, OSError, KeyError):
        return None


def _offset(value: str) -> tzinfo:
    if value in "Zz":
        return UTC
    digits = value[1:].replace(":", "")
    hours, minutes, seconds = int(digits[:2]), int(digits[2:4] or 0), int(digits[4:6] or 0)
    if hours > 24 or minutes > 60:
        raise TimeError("the offset is out of range")
    delta = timedelta(hours=hours, minutes=minutes, seconds=seconds)
    try:
        return timezone(-delta if value[0] == "-" else delta)
    except ValueError:
        raise TimeError("the offset is out of range") from None


def _this_year(when: datetime) -> datetime:
    """Times without a year are of this year, or of the last one where that would be more than a week ahead."""
    now = datetime.now(when.tzinfo)
    when = when.replace(year=now.year)
    return when.replace(year=now.year - 1) if when > now + timedelta(days=7) else when


def location_of(name: str, layout: str) -> tzinfo | None:
    """The zone `name`; without one UTC where the layout ends in Z (that is no %Z), else None for this machine's.

    ValueError for an unknown zone.
    """
    if not name:
        return UTC if _ENDS_IN_Z.search(layout) else None
    if name == "Local":
        return None
    zone = _named(name)
    if zone is None:
        raise ValueError(f"location {name!r} is not in the time zone database; write an IANA name such as Europe/Berlin")
    return zone


def strptime_layout(layout: str, location: tzinfo | None, zones: dict[str, tzinfo | None]) -> Layout:
    """The layout of strptime directives; ValueError for a directive that is unknown or out of place."""
    parts: list[tuple[str, str]] = []
    at = 0
    for match in re.finditer("%(.)", layout, re.DOTALL):
        if match.start() > at:
            parts.append(("literal", layout[at : match.start()]))
        at = match.end()
        directive = match[1]
        if directive not in _STRPTIME:
            raise ValueError(f"layout {layout!r}: %{directive} is not a directive")
        if directive in "Lfs" and not layout[: match.start()].endswith((".", ",")):
            raise ValueError(f"layout {layout!r}: %{directive} must follow a dot or a comma")
        for item in _STRPTIME[directive]:
            if item == "digits":
                parts.append(("fraction", "([0-9]+)"))
            elif item == "year_any":
                parts.append(("year", "([0-9]{4}|[0-9]{2})"))
            elif item in _PARTS:
                blanks = " *" if _PARTS[item].startswith("([0-9]") else ""
                parts.append((item, blanks + _PARTS[item]))
            else:
                parts.append(("literal", item))
    if at < len(layout):
        parts.append(("literal", layout[at:]))
    return Layout(parts, location, zones)


def gotime_layout(layout: str, location: tzinfo | None, zones: dict[str, tzinfo | None]) -> Layout:
    """The layout written as Go's reference time; ValueError where a fraction of nines follows neither dot nor comma."""
    if re.search("[^.,9]9+", layout):
        raise ValueError(f"layout {layout!r}: a fraction of seconds must follow a dot or a comma")
    parts: list[tuple[str, str]] = []
    at = 0
    for match in _GO.finditer(layout):
        item = match[0]
        if item == "Jan" and layout[match.end() : match.end() + 1].islower():
            continue
        if match.start() > at:
            parts.append(("literal", layout[at : match.start()]))
        at = match.end()
        if item[0] in ".,":
            if item[1] == "0":
                parts.append(("fraction", f"[.,]([0-9]{{{len(item) - 1}}})"))
            else:
                parts.append(("fraction", _PARTS["fraction_any"]))
        elif item[0] == "Z":
            parts.append(("offset", "(Z|" + _PARTS[_GO_KINDS["-" + item[1:]]][1:]))
        elif item == "_2006":
            parts += [("literal", "_"), ("year", _PARTS["year"])]
        else:
            kind = _GO_KINDS[item]
            parts.append((kind, _PARTS[kind]))
    if at < len(layout):
        parts.append(("literal", layout[at:]))
    return Layout(parts, location, zones)


_ENDS_IN_Z = re.compile(r"(?:^|[^%])(?:%%){0,100}Z\Z")
_UNITS: Final = {"s": 1_000_000_000, "ms": 1_000_000, "us": 1000, "ns": 1}


def epoch_nanoseconds(layout: str, value: Any) -> int:
    """Unix nanoseconds of a value since the epoch: a string, integer or float; `s.ms` and the like have a fraction."""
    whole = "." not in layout
    if isinstance(value, bytes):
        value = value.decode("utf-8", "replace")
    if isinstance(value, int) and not isinstance(value, bool):
        text = str(value) if whole else f"{value}.0"
    elif isinstance(value, float):
        if math.isnan(value) or abs(value) > 1e19:
            raise TimeError("the value is out of range")
        text = str(int(value)) if whole else format(value, {"s.ms": ".3f", "s.us": ".6f", "s.ns": ".9f"}[layout])
    elif isinstance(value, str):
        text = value
    else:
        raise TimeError("a value of this kind cannot be parsed as a time")
    match = re.fullmatch(r"([+-]?[0-9]{1,19})" + ("" if whole else r"\.([0-9]{1,19})"), text)
    if match is None:
        raise TimeError(f"the value does not fit the layout {layout}")
    if whole:
        return int(match[1]) * _UNITS[layout]
    return int(match[1]) * _UNITS["s"] + int(match[2]) * _UNITS[layout[2:]]
