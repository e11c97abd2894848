"""Layouts of times as the language writes them: strptime's directives (contrib, internal/coreinternal/timeutils).

A layout is compiled to a list of parts; parsing walks the text once. Texts are as Go's time package reads them: names of months and
days in any case, numbers of the width that the directive says.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from functools import lru_cache
from zoneinfo import ZoneInfo

from kofagent.ottl.errors import EvaluationError

_MONTHS = ("January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November", "December")
_DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_COMPOSED = {
    "D": "%m/%d/%Y",
    "F": "%Y-%m-%d",
    "R": "%H:%M",
    "T": "%H:%M:%S",
    "r": "%I:%M:%S %P",
    "c": "%a %b %e %H:%M:%S %Y",
    "v": "%e-%b-%Y",
}
_PLAIN = {"n": "\n", "t": "\t", "%": "%"}
_NUMBERS = {
    "Y": ("year", "[0-9]{4}"),
    "y": ("short_year", "[0-9]{2}"),
    "m": ("month", "[0-9]{2}"),
    "o": ("month", " ?[0-9]{1,2}"),
    "q": ("month", "[0-9]{1,2}"),
    "d": ("day", "[0-9]{1,2}"),
    "e": ("day", " ?[0-9]{1,2}"),
    "g": ("day", "[0-9]{1,2}"),
    "H": ("hour", "[0-9]{1,2}"),
    "I": ("hour12", "[0-9]{1,2}"),
    "l": ("hour12", "[0-9]{1,2}"),
    "M": ("minute", "[0-9]{2}"),
    "S": ("second", "[0-9]{2}"),
    "L": ("fraction", "[0-9]{3}"),
    "f": ("fraction", "[0-9]{6}"),
    "s": ("fraction", "[0-9]{9}"),
}
_NAMES = {
    "B": ("month_name", "|".join(_MONTHS)),
    "b": ("month_name", "|".join(m[:3] for m in _MONTHS)),
    "h": ("month_name", "|".join(m[:3] for m in _MONTHS)),
    "A": ("day_name", "|".join(_DAYS)),
    "a": ("day_name", "|".join(d[:3] for d in _DAYS)),
    "p": ("half", "AM|PM"),
    "P": ("half", "am|pm"),
    "z": ("offset", "Z|[-+][0-9]{4}"),
    "j": ("offset", "Z|[-+][0-9]{2}:[0-9]{2}"),
    "i": ("offset", "Z|[-+][0-9]{2}"),
    "k": ("offset", "Z|[-+][0-9]{2}:[0-9]{2}:[0-9]{2}"),
    "w": ("offset", "[-+][0-9]{6}"),
    "Z": ("zone_name", "[A-Z]{1,5}|[-+][0-9]{2}(?:[0-9]{2})?"),
}


@lru_cache(256)
def zone(name: str) -> tzinfo:
    """The zone of that IANA name, `Local` or UTC. EvaluationError."""
    if name in ("", "UTC"):
        return UTC
    if name == "Local":
        local = datetime.now().astimezone().tzinfo
        assert local is not None
        return local
    try:
        return ZoneInfo(name)
    except (OSError, ValueError):
        raise EvaluationError(f"unknown time zone {name!r}") from None


class Layout:
    """A layout, compiled. EvaluationError for one that upstream refuses. `layout` remembers those that were made."""

    def __init__(self, text: str) -> None:
        if not text:
            raise EvaluationError("the format is empty")
        if re.search(r"[0-9]", re.sub(r"%.", "", text)):
            raise EvaluationError("a format has no digits; write %Y for the year, and so on")
        self.text = text
        self._parts = list(self._of(text))
        names: list[str] = []
        pattern = []
        for kind, value in self._parts:
            if kind == "text":
                pattern.append(re.escape(value))
            else:
                name, expression = _NUMBERS.get(value) or _NAMES[value]
                names.append(name)
                pattern.append(f"({expression})")
        self._names = names
        # Every repetition is bounded and short, so that trying again costs a constant.
        self._pattern = re.compile("".join(pattern), re.IGNORECASE | re.ASCII)

    def _of(self, text: str) -> list[tuple[str, str]]:
        parts: list[tuple[str, str]] = []
        at = 0
        while at < len(text):
            char = text[at]
            if char != "%":
                parts.append(("text", char))
                at += 1
                continue
            directive = text[at + 1 : at + 2]
            at += 2
            if directive in _COMPOSED:
                parts += self._of(_COMPOSED[directive])
            elif directive in _PLAIN:
                parts.append(("text", _PLAIN[directive]))
            elif directive in _NUMBERS or directive in _NAMES:
                if directive in "Lfs" and (not parts or parts[-1] not in (("text", "."), ("text", ","))):
                    raise EvaluationError(f"%{directive} stands behind a dot or a comma")
                parts.append(("field", directive))
            else:
                raise EvaluationError(f"unknown directive %{directive}")
        return parts

    def parse(self, text: str, location: tzinfo | None) -> tuple[int, tzinfo | None]:
        """(Unix nanoseconds, zone) of a text; `location` is the zone where the text names none. EvaluationError."""
        match = self._pattern.fullmatch(text)
        if match is None:
            raise EvaluationError("the text is no time of the format")
        found = dict(zip(self._names, match.groups(), strict=True))
        try:
            return _moment(found, location)
        except (ValueError, OverflowError):
            raise EvaluationError("the text is no time of the format") from None

    def format(self, when: datetime, nanoseconds: int) -> str:
        """The text of a time; `nanoseconds` are those of its second."""
        return "".join(value if kind == "text" else _shown(value, when, nanoseconds) for kind, value in self._parts)


layout = lru_cache(256)(Layout)


def _moment(found: dict[str, str], location: tzinfo | None) -> tuple[int, tzinfo | None]:
    year = int(found.get("year") or 0)
    if "short_year" in found:
        short = int(found["short_year"])
        year = short + (1900 if short >= 69 else 2000)
    month = int(found.get("month", "1"))
    if "month_name" in found:
        month = 1 + [m[:3].lower() for m in _MONTHS].index(found["month_name"][:3].lower())
    hour = int(found.get("hour", "0"))
    if "hour12" in found:
        hour = int(found["hour12"])
        if hour > 12:
            raise ValueError
        half = found.get("half", "").lower()
        hour = hour % 12 + (12 if half == "pm" else 0) if half else hour
    where = location
    if "offset" in found:
        where = _offset(found["offset"])
    elif "zone_name" in found:
        where = _named(found["zone_name"], location)
    day = int(found.get("day", "1"))
    # Go knows a year 0, which a layout without a year gives; datetime does not.
    shift = 0 if year else 400
    naive = datetime(year + shift, month, day, hour, int(found.get("minute", "0")), int(found.get("second", "0")))
    when = naive.replace(tzinfo=where or UTC)
    seconds = (when - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(seconds=1) - (146097 * 86400 if shift else 0)
    return seconds * 10**9 + int(found.get("fraction", "0").ljust(9, "0")), where


def _offset(text: str) -> tzinfo:
    if text in ("Z", "z"):
        return UTC
    digits = text[1:].replace(":", "")
    seconds = int(digits[:2]) * 3600 + int(digits[2:4] or 0) * 60 + int(digits[4:6] or 0)
    return timezone(timedelta(seconds=-seconds if text[0] == "-" else seconds))


def _named(name: str, location: tzinfo | None) -> tzinfo | None:
    if name[0] in "+-":
        return _offset(name)
    if name in ("UTC", "GMT", "Z"):
        return UTC
    return location  # as Go: an abbreviation it does not know counts as UTC with that name


def _shown(directive: str, when: datetime, nanoseconds: int) -> str:
    if directive in "Lfs":
        return f"{nanoseconds:09d}"[: {"L": 3, "f": 6, "s": 9}[directive]]
    if directive in "zjikw":
        return _shown_offset(directive, when)
    hour = when.hour % 12 or 12
    texts = {
        "Y": f"{when.year:04d}",
        "y": f"{when.year % 100:02d}",
        "m": f"{when.month:02d}",
        "o": f"{when.month:>2}",
        "q": str(when.month),
        "d": f"{when.day:02d}",
        "e": f"{when.day:>2}",
        "g": str(when.day),
        "H": f"{when.hour:02d}",
        "I": f"{hour:02d}",
        "l": str(hour),
        "M": f"{when.minute:02d}",
        "S": f"{when.second:02d}",
        "B": _MONTHS[when.month - 1],
        "b": _MONTHS[when.month - 1][:3],
        "h": _MONTHS[when.month - 1][:3],
        "A": _DAYS[when.weekday()],
        "a": _DAYS[when.weekday()][:3],
        "p": "PM" if when.hour > 11 else "AM",
        "P": "pm" if when.hour > 11 else "am",
        "Z": when.tzname() or "UTC",
    }
    return texts[directive]


def _shown_offset(directive: str, when: datetime) -> str:
    offset = when.utcoffset() or timedelta()
    if not offset and directive == "z":
        return "Z"
    total = int(abs(offset).total_seconds())
    sign = "-" if offset < timedelta() else "+"
    hours, minutes, seconds = total // 3600, total // 60 % 60, total % 60
    shapes = {
        "z": "{0}{1:02d}{2:02d}",
        "w": "{0}{1:02d}{2:02d}{3:02d}",
        "j": "{0}{1:02d}:{2:02d}",
        "i": "{0}{1:02d}",
        "k": "{0}{1:02d}:{2:02d}:{3:02d}",
    }
    return shapes[directive].format(sign, hours, minutes, seconds)
